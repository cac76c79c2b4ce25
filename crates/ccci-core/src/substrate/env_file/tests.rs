//! What is read, refused and written, by example.

use super::*;

fn set_in(text: &str, vars: &[(&str, &str)]) -> String {
    String::from_utf8(set(text.as_bytes(), vars).unwrap()).unwrap()
}

fn value(text: &str, name: &str) -> String {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))[name].clone()
}

fn refused(text: &[u8]) -> String {
    parse(text).unwrap_err().in_file(".env.sample")
}

#[test]
fn a_file_without_a_final_newline_is_not_glued() {
    assert_eq!(set_in("A=1\n# note", &[("B", "2")]), "A=1\n# note\nB=2\n");
    assert_eq!(set_in("A=1\nB=2\n", &[("A", "3")]), "A=3\nB=2\n");
    assert_eq!(set_in("#A=1\n", &[("A", "2")]), "#A=1\nA=2\n");
    assert_eq!(set_in("", &[]), "");
    assert_eq!(set_in("\r", &[("A", "")]), "\r\nA=\n");
    assert_eq!(set_in("\r\nA=\n", &[("A", "")]), "\r\nA=\n", "twice is once");
    assert_eq!(set_in("A=1\r\nB=2\r\n", &[("A", "3")]), "A=3\r\nB=2\r\n");
    assert_eq!(set_in("A='1' B=2", &[("A", "3")]), "A=3\n B=2\n", "two in one line");
}

#[test]
fn the_assignment_that_counts_is_replaced() {
    let text = set_in("TLS=a\nTLS=b\nB=1\n", &[("TLS", "")]);
    assert_eq!((text.as_str(), value(&text, "TLS").as_str()), ("TLS=a\nTLS=\nB=1\n", ""));
    assert_eq!(set_in("export TLS=a\n", &[("TLS", "")]), "TLS=\n");
    assert_eq!(set_in("A='one\ntwo' # why\nB=1\n", &[("A", "x")]), "A=x # why\nB=1\n", "all of its lines");
    assert_eq!(set_in("TLS: a\n", &[("TLS", "b")]), "TLS=b\n");
}

#[test]
fn a_comment_behind_a_value_stays() {
    let set = |text: &str, value: &str| set_in(text, &[("SECRET_A_VERSION", value)]);
    assert_eq!(set("SECRET_A_VERSION=v1 # length=20\n", "v2"), "SECRET_A_VERSION=v2 # length=20\n");
    assert_eq!(set("SECRET_A_VERSION=\"v 1\" # it's\n", "v2"), "SECRET_A_VERSION=v2 # it's\n");
    assert_eq!(set("SECRET_A_VERSION='#1'\n", "v2"), "SECRET_A_VERSION=v2\n");
    assert_eq!(set("SECRET_A_VERSION='v1'#glued\n", "v2"), "SECRET_A_VERSION=v2 #glued\n");
    assert_eq!(set("SECRET_A_VERSION='v1'\t# tab\n", "v2"), "SECRET_A_VERSION=v2 # tab\n");
    assert_eq!(set("SECRET_A_VERSION=v1\t# tab\n", "v2"), "SECRET_A_VERSION=v2 # tab\n");
    assert_eq!(set("SECRET_A_VERSION=v1 # pad\n", "dg=="), "SECRET_A_VERSION=dg== # pad\n");
    assert_eq!(set("SECRET_A_VERSION=v1 # length=20\n", ""), "SECRET_A_VERSION=\n");
    assert_eq!(set("SECRET_A_VERSION='v1' # a # b\n", "v2"), "SECRET_A_VERSION='v2' # a # b\n");
    let twice = set(&set("SECRET_A_VERSION=v1 # one\n", "a #b"), "c");
    assert_eq!(twice, "SECRET_A_VERSION=c # one\n");
}

#[test]
fn a_value_is_read_back_whole() {
    let all = [
        "a #b",
        "a\t#b",
        " a ",
        "#a",
        "\"a\" b",
        "'a' b",
        "a=b",
        "\"",
        "it's",
        "two\nlines",
        "'\r\n",
        "a\\b",
        "' \\\\ \" ",
        "",
    ];
    for value in all {
        assert_eq!(parse(&set(b"", &[("A", value)]).unwrap()).unwrap()["A"], value, "{value:?}");
    }
    assert!(set(b"", &[("A", "' \"")]).is_err());
    assert!(set(b"", &[("A", " a\\")]).unwrap_err().why.contains("value for A"));
}

#[test]
fn values_lose_quotes_and_comments() {
    let text = "# c\nA=1 # one\nexport B=\"x # y\"\nC='z'\nE = a=b\nF: g\n\tG=1\t# tab\nH=a#b\nI=\nJ=x # y # z";
    let vars = parse(text.as_bytes()).unwrap();
    let get = |key: &str| vars[key].as_str();
    assert_eq!((get("A"), get("B"), get("C"), get("E")), ("1", "x # y", "z", "a=b"));
    assert_eq!((get("F"), get("G"), get("H"), get("I"), get("J")), ("g", "1", "a#b", "", "x # y"));
    assert_eq!(vars.len(), 9);
    assert_eq!(value("A= # b", "A"), "# b", "abra takes it for the value");
}

#[test]
fn a_compose_file_may_extend_itself() {
    let text = "COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.${KIND}smtp.yml\"\nP='$X'\nQ=a$$b$";
    let vars = parse(text.as_bytes()).unwrap();
    assert_eq!(vars["COMPOSE_FILE"], "compose.yml:compose.smtp.yml");
    assert_eq!((vars["P"].as_str(), vars["Q"].as_str()), ("$X", "a$$b$"), "an unknown name is empty");
}

#[test]
fn lines_of_any_system_and_values_of_several() {
    let vars = parse(b"\xef\xbb\xbfA=1\r\nB='2'\r\nC=\"one\r\ntwo\\nthree\"\r\nD=4\rE=5").unwrap();
    assert_eq!((vars["A"].as_str(), vars["B"].as_str(), vars["C"].as_str()), ("1", "2", "one\ntwo\nthree"));
    assert_eq!((vars["D"].as_str(), vars["E"].as_str()), ("4", "5"));
}

#[test]
fn a_dollar_is_read_as_compose_does_where_abra_cuts_it_to_pieces() {
    let x = |text: &str| value(&format!("SET=s\nEMPTY=\nX={text}\n"), "X");
    assert_eq!(
        (x("${NOT:-y}"), x("${EMPTY:-y}"), x("${EMPTY-y}"), x("${SET:-y}")),
        ("y".into(), "y".into(), String::new(), "s".into())
    );
    assert_eq!(
        (x("${SET:+y}"), x("${NOT+y}"), x("${SET:?e}"), x("${NOT:-a${SET}b}")),
        ("y".into(), String::new(), "s".into(), "asb".into())
    );
    assert_eq!(
        (x("{$SET}"), x("\\$SET"), x("\"\\$SET\""), x("'$SET'")),
        ("{s}".into(), "$SET".into(), "$SET".into(), "$SET".into())
    );
    assert_eq!((x("$small"), x("$(cmd)"), x("$$SET")), ("$small".into(), "$(cmd)".into(), "$s".into()), "as abra does");
    assert_eq!(x("\"say \\\"hi\\\"\""), "say \"hi\"");
    let no = |text: &str| refused(format!("SET=s\nX={text}\n").as_bytes());
    assert_eq!(
        no("$2y$05$abc"),
        ".env.sample:2: the value of X: `$2y` is no variable: write `\\$` for a dollar, or put the value into single quotes"
    );
    assert!(no("${NOT:?set it}").ends_with("NOT has no value, and is needed: set it"));
    for broken in ["${SET", "${1}", "$(SET)", "${SET!}", "${SET:}", "${SET:-x"] {
        assert!(no(broken).starts_with(".env.sample:2: the value of X"), "{broken}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_line() {
    assert_eq!(refused(b"A=1\nnoise\n"), ".env.sample:2: `noise` is neither a comment nor NAME=VALUE");
    assert_eq!(refused(b"A=1\n\nB=caf\xe9\n"), ".env.sample:3: the value of B is no UTF-8: save the file as such");
    assert_eq!(parse(b"# caf\xe9\nA=1 # caf\xe9\n").unwrap()["A"], "1", "in a comment it says nothing");
    assert!(set(b"# caf\xe9\n", &[("A", "1")]).unwrap().starts_with(b"# caf\xe9\nA=1\n"), "and stays");
    assert_eq!(refused(b"A='x\nB=1"), ".env.sample:1: the value of A begins with ' and has no end");
    assert_eq!(refused(b"=x\n"), ".env.sample:1: `=x` has no name");
    assert!(refused(b"A=x\0y").contains("NUL byte"));
}

#[test]
fn everything_is_bounded_and_the_variable_is_named() {
    let doubling: String =
        std::iter::once("A=xxxxxxxxxxxxxxxx\n".to_owned()).chain((0..40).map(|_| "A=$A$A\n".to_owned())).collect();
    assert_eq!(refused(doubling.as_bytes()), ".env.sample:14: the value of A: it gets longer than 65536 bytes");
    let many: String =
        std::iter::once(format!("A={}\n", "x".repeat(60_000))).chain((0..40).map(|n| format!("B{n}=$A\n"))).collect();
    assert!(refused(many.as_bytes()).contains("with B7 the values come to more than"), "{}", refused(many.as_bytes()));
    assert!(refused(&vec![b'#'; MAX_FILE + 1]).contains("longer than"));
    assert!(refused(format!("A={}", "x".repeat(MAX_VALUE + 1)).as_bytes()).contains("value of A"));
}

#[test]
fn no_file_is_none_and_what_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(load(&dir.path().join("none")).unwrap(), None);
    assert!(load(dir.path()).unwrap_err().to_string().contains("no regular file"));
    std::fs::write(dir.path().join("some"), b"A=1").unwrap();
    assert_eq!(load(&dir.path().join("some")).unwrap(), Some(b"A=1".to_vec()));
}
