export { sseInfo } from "./info";
export { sseExec } from "./exec";
