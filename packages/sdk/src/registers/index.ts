export type { RegisterBehaviour, RegisterHooks } from "./behaviour.ts";
export {
  bit,
  bits,
  fieldOf,
  type FieldMasks,
  type FieldSpec,
  type RegisterAccess,
  type RegisterSpec,
  type RegisterSpecs,
  type RegisterValues,
  withField,
} from "./declaration.ts";
export { describeAccess, describeOffset, describeValue } from "./describe-access.ts";
export { cHeader, registerReference } from "./documents.ts";
export { type RegisterPort, type RegisterPorts, registerPorts } from "./register-access.ts";
export { RegisterFile, type RegisterState, type RegisterUpgrade } from "./register-file.ts";
export type { AccessMasks, RegisterLayout } from "./register-layout.ts";
export { RegisterMap, registerMap, type RegisterMapOptions } from "./register-map.ts";
export { type VirtioConfig, virtioConfig } from "./virtio-config.ts";
