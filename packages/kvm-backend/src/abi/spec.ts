/** Numbers of `linux/kvm.h` and `asm/kvm.h`, x86-64. Request numbers carry direction and size as `_IOC` packs them. */

const KVMIO = 0xae;
const request = (direction: 0 | 1 | 2 | 3, number: number, size: number): number =>
  ((direction << 30) | (size << 16) | (KVMIO << 8) | number) >>> 0;
const none = (number: number): number => request(0, number, 0);
const write = (number: number, size: number): number => request(1, number, size);
const read = (number: number, size: number): number => request(2, number, size);
const both = (number: number, size: number): number => request(3, number, size);

/** Bytes of the structures. */
export const SizeOf = {
  kvm_regs: 0x90,
  kvm_sregs: 0x138,
  kvm_xsave: 0x1000,
  kvm_xcrs: 0x188,
  kvm_lapic_state: 0x400,
  kvm_vcpu_events: 0x40,
  kvm_debugregs: 0x80,
  kvm_guest_debug: 0x48,
  kvm_mp_state: 4,
  kvm_msrs: 8,
  kvm_msr_entry: 16,
  kvm_msr_list: 4,
  kvm_cpuid2: 8,
  kvm_cpuid_entry2: 40,
  kvm_translation: 24,
  kvm_userspace_memory_region: 0x20,
  kvm_dirty_log: 0x10,
  kvm_irqchip: 0x208,
  kvm_irq_level: 8,
  kvm_irq_routing: 8,
  kvm_irq_routing_entry: 48,
  kvm_msi: 0x20,
  kvm_pit_config: 0x40,
  kvm_ioeventfd: 0x40,
  kvm_coalesced_mmio_zone: 0x10,
  kvm_enable_cap: 0x68,
  kvm_irqfd: 0x20,
  kvm_clock_data: 0x30,
  kvm_pit_state2: 0x70,
  kvm_device_attr: 0x18,
} as const;

export type RequestName =
  | "KVM_GET_API_VERSION"
  | "KVM_CREATE_VM"
  | "KVM_GET_MSR_INDEX_LIST"
  | "KVM_CHECK_EXTENSION"
  | "KVM_GET_VCPU_MMAP_SIZE"
  | "KVM_GET_SUPPORTED_CPUID"
  | "KVM_CREATE_VCPU"
  | "KVM_GET_DIRTY_LOG"
  | "KVM_SET_USER_MEMORY_REGION"
  | "KVM_SET_TSS_ADDR"
  | "KVM_SET_IDENTITY_MAP_ADDR"
  | "KVM_CREATE_IRQCHIP"
  | "KVM_IRQ_LINE"
  | "KVM_GET_IRQCHIP"
  | "KVM_SET_IRQCHIP"
  | "KVM_REGISTER_COALESCED_MMIO"
  | "KVM_UNREGISTER_COALESCED_MMIO"
  | "KVM_SET_GSI_ROUTING"
  | "KVM_CREATE_PIT2"
  | "KVM_IRQFD"
  | "KVM_IOEVENTFD"
  | "KVM_RUN"
  | "KVM_GET_REGS"
  | "KVM_SET_REGS"
  | "KVM_GET_SREGS"
  | "KVM_SET_SREGS"
  | "KVM_TRANSLATE"
  | "KVM_GET_MSRS"
  | "KVM_SET_MSRS"
  | "KVM_GET_LAPIC"
  | "KVM_SET_LAPIC"
  | "KVM_SET_CPUID2"
  | "KVM_GET_MP_STATE"
  | "KVM_SET_MP_STATE"
  | "KVM_SET_GUEST_DEBUG"
  | "KVM_GET_VCPU_EVENTS"
  | "KVM_SET_VCPU_EVENTS"
  | "KVM_GET_DEBUGREGS"
  | "KVM_SET_DEBUGREGS"
  | "KVM_GET_XSAVE"
  | "KVM_SET_XSAVE"
  | "KVM_SIGNAL_MSI"
  | "KVM_ENABLE_CAP"
  | "KVM_GET_XCRS"
  | "KVM_SET_XCRS"
  | "KVM_RESET_DIRTY_RINGS"
  | "KVM_GET_XSAVE2"
  | "KVM_GET_CLOCK"
  | "KVM_SET_CLOCK"
  | "KVM_GET_PIT2"
  | "KVM_SET_PIT2"
  | "KVM_SET_TSC_KHZ"
  | "KVM_GET_TSC_KHZ"
  | "KVM_KVMCLOCK_CTRL"
  | "KVM_SET_DEVICE_ATTR"
  | "KVM_GET_DEVICE_ATTR";

export const Request: Readonly<Record<RequestName, number>> = {
  KVM_GET_API_VERSION: none(0x00),
  KVM_CREATE_VM: none(0x01),
  KVM_GET_MSR_INDEX_LIST: both(0x02, SizeOf.kvm_msr_list),
  KVM_CHECK_EXTENSION: none(0x03),
  KVM_GET_VCPU_MMAP_SIZE: none(0x04),
  KVM_GET_SUPPORTED_CPUID: both(0x05, SizeOf.kvm_cpuid2),
  KVM_CREATE_VCPU: none(0x41),
  KVM_GET_DIRTY_LOG: write(0x42, SizeOf.kvm_dirty_log),
  KVM_SET_USER_MEMORY_REGION: write(0x46, SizeOf.kvm_userspace_memory_region),
  KVM_SET_TSS_ADDR: none(0x47),
  KVM_SET_IDENTITY_MAP_ADDR: write(0x48, 8),
  KVM_CREATE_IRQCHIP: none(0x60),
  KVM_IRQ_LINE: write(0x61, SizeOf.kvm_irq_level),
  KVM_GET_IRQCHIP: both(0x62, SizeOf.kvm_irqchip),
  KVM_SET_IRQCHIP: read(0x63, SizeOf.kvm_irqchip),
  KVM_REGISTER_COALESCED_MMIO: write(0x67, SizeOf.kvm_coalesced_mmio_zone),
  KVM_UNREGISTER_COALESCED_MMIO: write(0x68, SizeOf.kvm_coalesced_mmio_zone),
  KVM_SET_GSI_ROUTING: write(0x6a, SizeOf.kvm_irq_routing),
  KVM_CREATE_PIT2: write(0x77, SizeOf.kvm_pit_config),
  KVM_IRQFD: write(0x76, SizeOf.kvm_irqfd),
  KVM_IOEVENTFD: write(0x79, SizeOf.kvm_ioeventfd),
  KVM_RUN: none(0x80),
  KVM_GET_REGS: read(0x81, SizeOf.kvm_regs),
  KVM_SET_REGS: write(0x82, SizeOf.kvm_regs),
  KVM_GET_SREGS: read(0x83, SizeOf.kvm_sregs),
  KVM_SET_SREGS: write(0x84, SizeOf.kvm_sregs),
  KVM_TRANSLATE: both(0x85, SizeOf.kvm_translation),
  KVM_GET_MSRS: both(0x88, SizeOf.kvm_msrs),
  KVM_SET_MSRS: write(0x89, SizeOf.kvm_msrs),
  KVM_GET_LAPIC: read(0x8e, SizeOf.kvm_lapic_state),
  KVM_SET_LAPIC: write(0x8f, SizeOf.kvm_lapic_state),
  KVM_SET_CPUID2: write(0x90, SizeOf.kvm_cpuid2),
  KVM_GET_MP_STATE: read(0x98, SizeOf.kvm_mp_state),
  KVM_SET_MP_STATE: write(0x99, SizeOf.kvm_mp_state),
  KVM_SET_GUEST_DEBUG: write(0x9b, SizeOf.kvm_guest_debug),
  KVM_GET_VCPU_EVENTS: read(0x9f, SizeOf.kvm_vcpu_events),
  KVM_SET_VCPU_EVENTS: write(0xa0, SizeOf.kvm_vcpu_events),
  KVM_GET_DEBUGREGS: read(0xa1, SizeOf.kvm_debugregs),
  KVM_SET_DEBUGREGS: write(0xa2, SizeOf.kvm_debugregs),
  KVM_GET_XSAVE: read(0xa4, SizeOf.kvm_xsave),
  KVM_SET_XSAVE: write(0xa5, SizeOf.kvm_xsave),
  KVM_SIGNAL_MSI: write(0xa5, SizeOf.kvm_msi),
  KVM_ENABLE_CAP: write(0xa3, SizeOf.kvm_enable_cap),
  KVM_GET_XCRS: read(0xa6, SizeOf.kvm_xcrs),
  KVM_SET_XCRS: write(0xa7, SizeOf.kvm_xcrs),
  KVM_RESET_DIRTY_RINGS: none(0xc7),
  KVM_GET_XSAVE2: read(0xcf, SizeOf.kvm_xsave),
  KVM_GET_CLOCK: read(0x7c, SizeOf.kvm_clock_data),
  KVM_SET_CLOCK: write(0x7b, SizeOf.kvm_clock_data),
  KVM_GET_PIT2: read(0x9f, SizeOf.kvm_pit_state2),
  KVM_SET_PIT2: write(0xa0, SizeOf.kvm_pit_state2),
  KVM_SET_TSC_KHZ: none(0xa2),
  KVM_GET_TSC_KHZ: none(0xa3),
  KVM_KVMCLOCK_CTRL: none(0xad),
  KVM_SET_DEVICE_ATTR: write(0xe1, SizeOf.kvm_device_attr),
  KVM_GET_DEVICE_ATTR: write(0xe2, SizeOf.kvm_device_attr),
};

export const API_VERSION = 12;

/** Capabilities of `KVM_CHECK_EXTENSION`. */
export const Capability = {
  KVM_CAP_IRQCHIP: 0,
  KVM_CAP_USER_MEMORY: 3,
  KVM_CAP_NR_MEMSLOTS: 10,
  KVM_CAP_MP_STATE: 14,
  KVM_CAP_IRQ_ROUTING: 25,
  KVM_CAP_PIT2: 33,
  KVM_CAP_VCPU_EVENTS: 41,
  KVM_CAP_DEBUGREGS: 50,
  KVM_CAP_XSAVE: 55,
  KVM_CAP_XCRS: 56,
  KVM_CAP_MAX_VCPUS: 66,
  KVM_CAP_SIGNAL_MSI: 77,
  KVM_CAP_READONLY_MEM: 81,
  KVM_CAP_IOEVENTFD: 36,
  KVM_CAP_IOEVENTFD_ANY_LENGTH: 122,
  KVM_CAP_COALESCED_MMIO: 15,
  KVM_CAP_COALESCED_PIO: 162,
  KVM_CAP_DIRTY_LOG_RING: 192,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: 223,
  KVM_CAP_IRQFD: 32,
  KVM_CAP_XSAVE2: 208,
  KVM_CAP_SPLIT_IRQCHIP: 121,
  KVM_CAP_IMMEDIATE_EXIT: 136,
  KVM_CAP_SET_GUEST_DEBUG2: 195,
  KVM_CAP_TSC_DEADLINE_TIMER: 72,
  KVM_CAP_TSC_CONTROL: 60,
} as const;

/** `kvm_run`: offsets, and the exit reasons. */
export const Run = {
  REQUEST_INTERRUPT_WINDOW: 0,
  IMMEDIATE_EXIT: 1,
  EXIT_REASON: 8,
  READY_FOR_INTERRUPT_INJECTION: 12,
  CR8: 16,
  IO_DIRECTION: 32,
  IO_SIZE: 33,
  IO_PORT: 34,
  IO_COUNT: 36,
  IO_DATA_OFFSET: 40,
  MMIO_ADDRESS: 32,
  MMIO_DATA: 40,
  MMIO_LENGTH: 48,
  MMIO_IS_WRITE: 52,
  DEBUG_PC: 40,
  HARDWARE_REASON: 32,
  INTERNAL_SUBERROR: 32,
  INTERNAL_NDATA: 36,
  INTERNAL_DATA: 40,
  EMULATION_FLAGS: 40,
  EMULATION_LENGTH: 48,
  EMULATION_BYTES: 49,
  HYPERCALL_NR: 32,
  HYPERCALL_ARGS: 40,
  MSR_REASON: 40,
  MSR_INDEX: 44,
  MSR_DATA: 48,
  SYSTEM_EVENT_TYPE: 32,
  EOI_VECTOR: 32,
} as const;

export const Exit = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  SET_TPR: 11,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
  DIRTY_RING_FULL: 31,
} as const;

/** `kvm_run.internal`. */
export const InternalError = {
  EMULATION: 1,
  HAS_INSTRUCTION_BYTES: 1,
  MAX_INSTRUCTION: 15,
  MAX_DATA: 16,
} as const;

export const MemoryFlag = { LOG_DIRTY_PAGES: 1, READONLY: 2 } as const;

/** `kvm_ioeventfd.flags`. */
export const IoEventFdFlag = { DATAMATCH: 1, PIO: 2, DEASSIGN: 4 } as const;

/** `kvm_coalesced_mmio_ring`, in the page that `KVM_CAP_COALESCED_MMIO` names: two indices, then entries. */
export const CoalescedRing = {
  PAGE: 4096,
  FIRST: 0,
  LAST: 4,
  ENTRIES: 8,
  ENTRY_BYTES: 24,
  ENTRY_COUNT: 170,
} as const;

/** `kvm_dirty_gfn`: flags, slot, offset in pages; the rings are mapped behind `kvm_run` at this page. */
export const DirtyGfn = { BYTES: 16, DIRTY: 1, RESET: 2, PAGE_OFFSET: 64 } as const;

/** Groups and attributes of a vCPU (`KVM_SET_DEVICE_ATTR`). */
export const VcpuAttribute = { TSC_CTRL: 0, TSC_OFFSET: 0 } as const;

/** `kvm_pit_config.flags`: the kernel answers port 61h too, whose gate and output are of its own channel 2. */
export const PitFlag = { SPEAKER_DUMMY: 1 } as const;

/** `kvm_irqfd.flags`. */
export const IrqfdFlag = { DEASSIGN: 1 } as const;

/** `kvm_irq_routing_entry`: types, and where what belongs to the type begins. */
export const IrqRoute = { IRQCHIP: 1, MSI: 2, BODY: 16 } as const;

export const MpState = {
  RUNNABLE: 0,
  UNINITIALIZED: 1,
  INIT_RECEIVED: 2,
  HALTED: 3,
  SIPI_RECEIVED: 4,
} as const;

export const GuestDebug = { ENABLE: 1, SINGLESTEP: 2, USE_HW_BP: 0x20000, BLOCKIRQ: 0x100000 } as const;

/** Values of `kvm_vcpu_events.interrupt.shadow`. */
export const Shadow = { MOV_SS: 1, STI: 2 } as const;
/** `kvm_vcpu_events.flags`. */
export const EventFlag = { NMI_PENDING: 1, SHADOW: 4 } as const;
/** Offsets in `kvm_vcpu_events`. */
export const Event = {
  EXCEPTION_INJECTED: 0,
  EXCEPTION_VECTOR: 1,
  EXCEPTION_HAS_ERROR: 2,
  EXCEPTION_PENDING: 3,
  EXCEPTION_ERROR: 4,
  INTERRUPT_INJECTED: 8,
  INTERRUPT_VECTOR: 9,
  INTERRUPT_SOFT: 10,
  INTERRUPT_SHADOW: 11,
  NMI_INJECTED: 12,
  NMI_PENDING: 13,
  NMI_MASKED: 14,
  FLAGS: 20,
} as const;

/** Offsets in a local APIC's register page (SDM 3A §11.4.1). */
export const LapicPage = {
  ID: 0x20,
  VERSION: 0x30,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  IRR: 0x200,
  LVT_FIRST: 0x320,
  LVT_LAST: 0x370,
  INITIAL_COUNT: 0x380,
} as const;

/** IA32_APIC_BASE (SDM 3A §11.4.4). */
export const ApicBase = { ENABLED: 0x800n } as const;

/** SDM 4, table 2-2; TSC_AUX is also AMD's. */
export const Msr = {
  IA32_TSC: 0x10,
  IA32_MTRRCAP: 0xfe,
  IA32_MCG_CAP: 0x179,
  IA32_MCG_STATUS: 0x17a,
  IA32_MCG_CTL: 0x17b,
  IA32_MTRR_PHYSBASE0: 0x200,
  IA32_MTRR_FIX64K_00000: 0x250,
  IA32_MTRR_FIX16K_80000: 0x258,
  IA32_MTRR_FIX16K_A0000: 0x259,
  IA32_MTRR_FIX4K_C0000: 0x268,
  IA32_MTRR_DEF_TYPE: 0x2ff,
  IA32_MC0_CTL: 0x400,
  IA32_TSC_DEADLINE: 0x6e0,
  IA32_TSC_AUX: 0xc0000103,
} as const;

/** Pins of the I/O APIC in the kernel. */
export const IOAPIC_PINS = 24;

export const IrqchipId = { PIC_MASTER: 0, PIC_SLAVE: 1, IOAPIC: 2 } as const;

/** Where processors without unrestricted guest mode keep their helpers: a page and three, below a BIOS of 16 MiB. */
export const IDENTITY_MAP_ADDRESS = 0xfeffc000;
export const TSS_ADDRESS = 0xfeffd000;
