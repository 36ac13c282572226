import { setFlagsFromString } from "node:v8";

/**
 * V8 13.6 ends a process now and then in which threads run wasm, where it gives up the wrapper of an import for a faster
 * one: it has lost count of what code is where (nodejs/node issue 64500). A thread of ours that starts from its sources
 * runs wasm, which strips the types; so the wrappers stay as they are. What is built has no such threads.
 */
setFlagsFromString("--wasm-wrapper-tiering-budget=2000000000");
