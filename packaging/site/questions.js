// Asks the search of a built site what visitors ask, and fails where another page than
// the expected one comes first: node questions.js SITE. It runs the search as it is
// shipped, with a page that does nothing.
const fs = require("fs"), path = require("path"), vm = require("vm");
const site = process.argv[2];
const nothing = { addEventListener() {}, dataset: { up: "" } };
const page = vm.createContext({
  document: { getElementById: () => nothing, body: nothing, addEventListener() {} }, location: { search: "" }, URLSearchParams,
});
const read = name => fs.readFileSync(path.join(site, name), "utf8");
const find = vm.runInContext(read("index.js") + read("search.js") + ";find", page);
let asked = 0, wrong = 0;
for (const line of fs.readFileSync(path.join(__dirname, "questions.txt"), "utf8").split("\n")) {
  if (!line || line.startsWith("#")) continue;
  const [question, want] = line.split(" => "), got = find(question)[0][0]?.p;
  asked++;
  if (got !== want) {
    wrong++;
    console.error(`site: "${question}" finds ${got ?? "nothing"} first, want ${want}`);
  }
}
console.log(`site: ${asked - wrong} of ${asked} questions find their page`);
process.exit(wrong ? 1 : 0);
