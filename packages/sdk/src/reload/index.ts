export { ReloadableDevice } from "./reloadable-device.ts";
