import { ioctl, ioctlUnchecked } from "@northbridge/linux";
import { Capability, Request } from "./spec.ts";

/** Rates that differ by less are one to KVM: its module's `tsc_tolerance_ppm`, as it is where nobody sets it. */
const TOLERANCE = 250e-6;

/** What a vCPU's time-stamp counter counts at, in kHz. */
export function tscRate(vcpu: number): number {
  return ioctl(vcpu, Request.KVM_GET_TSC_KHZ, 0, "KVM_GET_TSC_KHZ");
}

/**
 * Has a vCPU's time-stamp counter count at another rate. Returns whether it does: only some processors scale it, and
 * what KVM does instead for a guest that is to count faster does not reach one that reads the counter itself.
 */
export function setTscRate(vcpu: number, khz: number, canScale: boolean): boolean {
  const found = tscRate(vcpu);
  if (found === khz) return true;
  if (!canScale && Math.abs(found - khz) > found * TOLERANCE) return false;
  return ioctlUnchecked(vcpu, Request.KVM_SET_TSC_KHZ, khz) === 0 && tscRate(vcpu) === khz;
}

/** @param vm or `/dev/kvm` */
export function canScaleTsc(vm: number): boolean {
  return ioctl(vm, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_TSC_CONTROL, "KVM_CAP_TSC_CONTROL") > 0;
}
