// Builds dist/ from src/: the files that the Go package embeds. The same input
// gives the same bytes, so that a check can compare what is committed.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";

const dist = new URL(process.argv[2] ?? "dist/", `file://${process.cwd()}/`);
await rm(dist, { recursive: true, force: true });

// bundle returns one script and one style sheet for an entry of src/.
async function bundle(name) {
  const result = await build({
    entryPoints: [`src/${name}/main.tsx`],
    bundle: true,
    minify: true,
    charset: "utf8",
    format: "iife",
    target: ["es2022"],
    jsx: "automatic",
    jsxImportSource: "preact",
    // Its package names a file that it does not have.
    alias: { "@xterm/headless": "@xterm/headless/lib-headless/xterm-headless.mjs" },
    loader: { ".svg": "dataurl" },
    legalComments: "none", // LICENSES has them whole
    metafile: true,
    outdir: "out",
    write: false,
  });
  const text = (end) => result.outputFiles.find((f) => f.path.endsWith(end))?.text ?? "";
  return { script: text(".js"), style: text(".css"), packages: packagesOf(result.metafile) };
}

// packagesOf returns the names of the packages that are in a bundle.
function packagesOf(metafile) {
  const names = Object.keys(metafile.inputs).map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
  return names.filter((name) => name !== undefined);
}

// Packages of one repository of which only the main one has its licence.
const licenceOf = { "@xterm/headless": "@xterm/xterm", "@xterm/addon-serialize": "@xterm/xterm" };

// licences returns the licences of packages.
async function licences(packages) {
  let all = "";
  for (const name of [...new Set(packages)].sort()) {
    const dir = `node_modules/${licenceOf[name] ?? name}`;
    const file = (await readdir(dir)).find((f) => /^licen[cs]e/i.test(f));
    if (file === undefined) {
      throw new Error(`${name} has no licence`);
    }
    const { version } = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
    const text = (await readFile(`${dir}/${file}`, "utf8")).replaceAll("\r\n", "\n").trim();
    all += `${name} ${version}\n\n${text}\n\n${"=".repeat(80)}\n`;
  }
  return all;
}

const bundled = [];

const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

// The window is served by berth, which sends the policy as a header.
{
  const { script, style, packages } = await bundle("window");
  bundled.push(...packages);
  await mkdir(new URL("window/", dist), { recursive: true });
  await writeFile(new URL("window/app.js", dist), script);
  await writeFile(new URL("window/app.css", dist), style);
  // What the script draws first is in the page already, so that it is painted before the
  // script runs. Its links lead nowhere yet: they would replace the token in the address.
  const views = Object.values(JSON.parse(await readFile("src/window/views.json", "utf8")));
  const icon = await readFile("../../packaging/icons/fine.svg", "utf8");
  const page = (await readFile("src/window/index.html", "utf8"))
    .replace("{{views}}", () => views.map((name) => `<li><a>${name}</a></li>`).join(""))
    .replace("{{icon}}", () => `data:image/svg+xml,${encodeURIComponent(icon.replace(/\s*\n\s*/g, ""))}`);
  await writeFile(new URL("window/index.html", dist), page);
}

// The player is one file with everything inside, so its policy stands in it: the
// script and the style by their hashes, and no request to anywhere.
{
  const { script, style, packages } = await bundle("player");
  bundled.push(...packages);
  const notices = await licences(packages);
  if (/<\/?script/i.test(script + notices) || /<\/style/i.test(style)) {
    throw new Error("the player's code would end its own element");
  }
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data:; base-uri 'none'; form-action 'none'`;
  const page = (await readFile("src/player/index.html", "utf8"))
    .replace("{{policy}}", () => policy)
    .replace("{{style}}", () => style)
    .replace("{{licences}}", () => notices)
    .replace("{{script}}", () => script);
  await mkdir(new URL("player/", dist), { recursive: true });
  await writeFile(new URL("player/player.html", dist), page);
}

await writeFile(new URL("LICENSES", dist), await licences(bundled));
