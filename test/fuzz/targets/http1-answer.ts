// Owns: the fuzz target of answer heads.

import { Head, parseAnswer } from "../../../src/proxy/http1/head.ts";
import { bytesOf, must, type Target } from "../target.ts";
import { answers } from "../vectors/http1-answers.ts";
import { checkHead } from "./http1-head.ts";
import { http1Words } from "./words.ts";

const head = new Head();

export const http1Answer: Target = {
  name: "http1-answer",
  seeds: bytesOf(answers.map((vector) => vector.raw)),
  words: bytesOf(http1Words),
  most: 4_096,
  check: (input, random) => {
    checkHead(parseAnswer, input, random);
    if (parseAnswer(input, 0, input.length, head) > 0) must(head.status >= 100 && head.status <= 999, "a status that is none", head.status);
  },
};
