// Reads an AsyncAPI document from the file given and prints its problems as JSON, one array.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const text = await readFile(process.argv[2], "utf8");
const { document, diagnostics } = await new Parser().parse(text);
const problems = diagnostics.map(({ code, severity, message, path }) => ({
  code,
  severity,
  message,
  path: path.join("."),
}));
process.stdout.write(JSON.stringify({ parsed: document !== undefined, problems }));
