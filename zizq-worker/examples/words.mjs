// Counts the words of the payload's text.
import { readFileSync, writeSync } from "node:fs";

const say = (line) => writeSync(Number(process.env.ZIZQ_CTL_FD), JSON.stringify(line) + "\n");

const { text } = JSON.parse(readFileSync(0, "utf8"));
if (!text) {
  console.error("the text is empty");
  process.exit(65); // EX_DATAERR: trying again is of no use
}

const words = text.split(/\s+/).filter(Boolean).length;
say({ progress: 1, message: "counted" });
say({ result: { words } });
console.log(`${words} words`);
