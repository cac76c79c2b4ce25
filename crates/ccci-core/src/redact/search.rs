//! Finding secrets in what was written already: a file is read once, in parts, whatever its size.

use std::io::{self, BufRead as _, BufReader, Read};

use aho_corasick::AhoCorasick;

use super::{SHORTEST, shapes, telling};

/// So much of a file is in memory at once: a test may have written any amount.
const PART: usize = 64 << 10;

/// Finds values in all their shapes.
#[derive(Debug)]
pub struct Searcher(Option<AhoCorasick>);

impl Searcher {
    /// For these values; one that is empty or very short is in every file, and says nothing.
    ///
    /// # Errors
    /// When there are more of them than can be looked for.
    pub fn new(values: &[String]) -> io::Result<Self> {
        let shapes = shapes::of_all(values.iter().filter_map(|value| telling(value)));
        // A line's end may stand anywhere in one, so there are none in what is compared.
        let lines = |shape: &[u8]| shape.split(|byte| b"\r\n".contains(byte)).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let flat = |shape: &Vec<u8>| lines(shape).iter().flat_map(|line| line[own_words(line)..].to_vec()).collect();
        let flat: Vec<Vec<u8>> = shapes.iter().map(flat).filter(|flat: &Vec<u8>| flat.len() >= SHORTEST).collect();
        let finder = AhoCorasick::new(&flat).map_err(io::Error::other)?;
        Ok(Self(Some(finder).filter(|_| !flat.is_empty())))
    }

    /// Whether there is anything to look for.
    #[must_use]
    pub const fn looks(&self) -> bool {
        self.0.is_some()
    }

    /// Whether one of the values is in there, also across the ends of lines and of what is read at once.
    ///
    /// # Errors
    /// What cannot be read was not looked at.
    pub fn is_in(&self, text: impl Read) -> io::Result<bool> {
        self.is_in_parts(text, PART)
    }

    fn is_in_parts(&self, text: impl Read, part: usize) -> io::Result<bool> {
        let Some(finder) = &self.0 else { return Ok(false) };
        let flat = Flat { text: BufReader::with_capacity(part, text), begin: Some(Vec::new()), ready: Vec::new() };
        let found = finder.stream_find_iter(flat).next().transpose();
        found.map(|found| found.is_some())
    }
}

/// A text in one line: without the ends of lines, and without what a log puts before each (`+12s`, `     | `).
struct Flat<R> {
    text: BufReader<R>,
    /// The begin of a line, as long as it may be a log's own words.
    begin: Option<Vec<u8>>,
    /// What is still to be handed out.
    ready: Vec<u8>,
}

/// No log puts more before a line.
const LONGEST_BEGIN: usize = 32;

impl<R: Read> Flat<R> {
    /// The next part; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let part = self.text.fill_buf()?;
        let read = part.len();
        for byte in part {
            match (&mut self.begin, byte) {
                (_, b'\n') => self.begin = Some(Vec::new()),
                (_, b'\r') => {}
                (None, byte) => self.ready.push(*byte),
                (Some(begin), byte) => {
                    begin.push(*byte);
                    let own = own_words(begin);
                    if own < begin.len() || begin.len() >= LONGEST_BEGIN {
                        self.ready.extend_from_slice(&begin[own..]);
                        self.begin = None;
                    }
                }
            }
        }
        self.text.consume(read);
        Ok(read > 0)
    }
}

impl<R: Read> Read for Flat<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && self.advance()? {}
        let read = self.ready.len().min(to.len());
        to[..read].copy_from_slice(&self.ready[..read]);
        self.ready.drain(..read);
        Ok(read)
    }
}

/// How many bytes are a log's own.
fn own_words(line: &[u8]) -> usize {
    let mut at = 0;
    if line.first() == Some(&b'+') {
        at = 1 + line[1..].iter().take_while(|byte| byte.is_ascii_digit() || b"hms".contains(byte)).count();
        // `+5` is a log's time only if a space follows, or may still do so.
        if line.get(at).is_some_and(|byte| *byte != b' ') {
            return 0;
        }
    }
    at += line[at..].iter().take_while(|byte| b" \t".contains(byte)).count();
    if line.get(at) == Some(&b'|') {
        at += 1;
        at += line[at..].iter().take_while(|byte| **byte == b' ').count();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(value: &str, text: &str) -> bool {
        let searcher = Searcher::new(&[value.to_owned()]).unwrap();
        let found = searcher.is_in(text.as_bytes()).unwrap();
        for part in [1, 2, 7, 64] {
            assert_eq!(searcher.is_in_parts(text.as_bytes(), part).unwrap(), found, "{part}: {text:?}");
        }
        found
    }

    #[test]
    fn a_value_is_found_in_every_shape_and_across_lines() {
        let value = "hunter2/ä+Z&hunter2";
        for text in [
            "x hunter2/ä+Z&hunter2 y",
            "hunter2/ä+\nZ&hunter2",
            "+3s          | hunter2/ä+\n+3s          | Z&hunter2\n",
            "+1m05s       | hunter2/ä\r\n+1m05s       | +Z&hunter2",
            "hunter2%2F%C3%A4%2BZ%26hunter2",
            "hunter2%2f%c3%a4%2bZ%26hunter2",
            "hunter2/ä+Z&amp;hunter2",
            r"hunter2\/ä+Z&hunter2",
            r"hunter2/\u00e4+Z&hunter2",
            "68756e746572322fc3a42b5a2668756e74657232",
            "68756E746572322FC3A42B5A2668756E74657232",
            // base64 of "token=hunter2/ä+Z&hunter2\n", in two lines
            "dG9rZW49aHVudGVyMi/DpC\ntaJmh1bnRlcjIK",
        ] {
            assert!(finds(value, text), "{text}");
            assert!(!finds("other-value-Z", text), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_not_found() {
        for value in ["", "ab", " \n "] {
            assert!(!finds(value, "anything ab"), "{value:?}");
        }
        assert!(!finds("hunter2", "hunter 2, hunte\n+x r2"));
        assert!(finds("+5shunter", "a line\n+5shunter"), "a plus is a log's only with a time");
    }

    #[test]
    fn who_could_not_read_has_not_looked() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let searcher = Searcher::new(&["hunter2".to_owned()]).unwrap();
        assert!(searcher.is_in(Broken).is_err());
    }
}
