// Says what is wrong with the page that it is put into, in the attribute `data-wrong` of the document.
// WIDTH and DARK are what the window was asked to be.
addEventListener("load", () => {
  const wrong = [];
  const root = document.documentElement;
  const claim = (holds, what) => holds || wrong.push(what);

  claim(innerWidth === WIDTH, `the window is ${innerWidth} wide`);
  claim(matchMedia("(prefers-color-scheme: dark)").matches === DARK, "the window has the wrong scheme");
  claim(root.scrollWidth <= innerWidth, `wider than the window: ${root.scrollWidth}`);
  claim(root.lang, "no language");
  claim(document.title.trim(), "no title");
  claim(document.querySelectorAll("h1").length === 1, "not one h1");
  claim(document.querySelectorAll("main").length === 1, "not one main");
  let level = 1;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const own = Number(heading.tagName[1]);
    claim(own <= level + 1, `a level of headings is left out at: ${heading.textContent}`);
    level = own;
  }
  for (const image of document.images) claim(image.hasAttribute("alt"), `an image without alt: ${image.src}`);
  for (const image of document.images) claim(image.naturalWidth > 0, `an image that is none: ${image.src}`);
  for (const link of document.links) {
    claim(link.textContent.trim() || link.querySelector("img[alt]"), `a link without a name: ${link.href}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  claim(new Set(ids).size === ids.length, "an id twice");

  // WCAG 2.2, 1.4.3: https://www.w3.org/TR/WCAG22/#contrast-minimum
  const parse = (text) => {
    const match = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(text);
    if (!match) throw new Error(`a colour that is not understood: ${text}`);
    return match.slice(1).map((part) => (part === undefined ? 1 : Number(part)));
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => part * a + below[i] * (1 - a));
  const canvas = DARK ? [0, 0, 0] : [255, 255, 255];
  const behind = (element) =>
    element ? over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : canvas;
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const c = part / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("svg, script, style")) continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const [a, b] = [luminance(over(parse(style.color), back)), luminance(back)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    claim(ratio >= (large ? 3 : 4.5), `contrast ${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  root.dataset.wrong = encodeURIComponent(JSON.stringify(wrong));
});
