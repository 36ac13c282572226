/** What the tests drive directly. Not part of the core. */
export * from "../sse/exec";
export * from "../sse/info";
