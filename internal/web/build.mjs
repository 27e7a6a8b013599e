// Builds dist/ from src/: the files that the Go package embeds. The same input
// gives the same bytes, so that a check can compare what is committed.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";

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
    legalComments: "none", // LICENSES has them whole
    outdir: "out",
    write: false,
  });
  const text = (end) => result.outputFiles.find((f) => f.path.endsWith(end))?.text ?? "";
  return { script: text(".js"), style: text(".css") };
}

const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

// The window is served by berth, which sends the policy as a header.
{
  const { script, style } = await bundle("window");
  await mkdir(new URL("window/", dist), { recursive: true });
  await writeFile(new URL("window/app.js", dist), script);
  await writeFile(new URL("window/app.css", dist), style);
  await writeFile(new URL("window/index.html", dist), await readFile("src/window/index.html"));
}

// The player is one file with everything inside, so its policy stands in it: the
// script and the style by their hashes, and no request to anywhere.
{
  const { script, style } = await bundle("player");
  if (/<\/script/i.test(script) || /<\/style/i.test(style)) {
    throw new Error("the player's code would end its own element");
  }
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data:; base-uri 'none'; form-action 'none'`;
  const page = (await readFile("src/player/index.html", "utf8"))
    .replace("{{policy}}", () => policy)
    .replace("{{style}}", () => style)
    .replace("{{script}}", () => script);
  await mkdir(new URL("player/", dist), { recursive: true });
  await writeFile(new URL("player/player.html", dist), page);
}
