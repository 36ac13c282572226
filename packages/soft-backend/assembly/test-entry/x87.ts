/** What the tests drive directly. Not part of the core. */
export * from "../x87";
