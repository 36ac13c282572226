export { debugConsole, type FakePlugin, fakePlugin, powerPort } from "./fake-devices.ts";
export { FakeHypervisor, type FakeStep, FakeVm } from "./fake-hypervisor.ts";
