/**
 * Addresses in the CPU's wasm memory, shared by the AssemblyScript core and its TypeScript host.
 * Everything below 64 KiB can be named by a 16-bit pointer in a decoded record.
 *
 * The block [STATE, STATE_END) holds the vCPU that is running; the others rest in their save areas.
 */
export const STATE = 0x400;
export const STATE_END = 0xc00;

/** u32 FEATURE_*, of every vCPU: what the CPU model claims beyond what every model has. */
export const FEATURES = 0x3f8;
export const FEATURE_XSAVE = 1;
export const FEATURE_UMIP = 2;
export const FEATURE_MOVBE = 4;
export const FEATURE_AES = 8;
export const FEATURE_PCLMULQDQ = 0x10;
export const FEATURE_RDTSCP = 0x20;

/** 16 general registers, u64 each, in encoding order (rax rcx rdx rbx rsp rbp rsi rdi r8…r15). */
export const GPR = 0x400;
/** A u64 that is always zero: the absent base or index. */
export const ZERO = 0x480;
/** Effective address computed by a prefix record (segment base, 32-bit addressing). */
export const EA = 0x488;
/** Linear address of the page that holds the running block, u64. */
export const RIP_BASE = 0x490;
export const RIP = 0x498;
/** u64. Between runs complete; inside a run the status bits are lazy (CC_*). */
export const RFLAGS = 0x4a0;
export const CC_OP = 0x4a8;
export const CC_DST = 0x4b0;
export const CC_SRC = 0x4b8;
export const CR0 = 0x4c0;
export const CR2 = 0x4c8;
export const CR3 = 0x4d0;
export const CR4 = 0x4d8;
export const CR8 = 0x4e0;
export const EFER = 0x4e8;

/** Segments, 32 bytes each, in the order ES CS SS DS FS GS LDTR TR. */
export const SEG = 0x500;
export const SEG_SIZE = 32;
export const SEG_BASE = 0; // u64
export const SEG_LIMIT = 8; // u32, bytes, granularity applied
/** u32: type 0–3, S 4, DPL 5–6, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16 (SDM 3C §24.4.1). */
export const SEG_ATTR = 12;
export const SEG_SELECTOR = 16; // u16
/** base u64, limit u32 at +8. */
export const GDTR = 0x600;
export const IDTR = 0x610;

export const MSR_STAR = 0x620;
export const MSR_LSTAR = 0x628;
export const MSR_CSTAR = 0x630;
export const MSR_SFMASK = 0x638;
export const MSR_KERNEL_GS_BASE = 0x640;
export const MSR_SYSENTER_CS = 0x648;
export const MSR_SYSENTER_ESP = 0x650;
export const MSR_SYSENTER_EIP = 0x658;
export const MSR_PAT = 0x660;
export const MSR_TSC_AUX = 0x668;
/** DR0–DR3, DR6, DR7, u64 each. */
export const DR = 0x680;

/** u32: the instruction about to run is to be followed by a single-step #DB; after it, that #DB is due. */
export const STEP_ARMED = 0x724;
/** u32: B0–B3 of data and I/O breakpoints that the last instruction met. */
export const DEBUG_HITS = 0x728;

export const CPL = 0x6b0; // u32
/** u32: 0 real, 1 16-bit protected, 2 32-bit protected or compatibility, 3 64-bit. */
export const MODE = 0x6b4;
/** u32, non-zero while an interrupt controller wants this vCPU; `acknowledge` tells the vector. */
export const INTR = 0x6c0;
export const NMI_PENDING = 0x6c4; // u32
export const NMI_MASKED = 0x6c8; // u32
/** u32: 1 for the instruction after STI, 2 for the one after a load of SS. */
export const SHADOW = 0x6cc;
export const HALTED = 0x6d0; // u32
/** u64: instructions retired by this vCPU since reset. Valid between runs and inside imports. */
export const ICOUNT = 0x6d8;
/** i32: what is left of the slice's budget after the running block. */
export const LEFT = 0x6e0;
/** u32: non-zero makes the run loop look around at the next instruction boundary. */
export const ATTENTION = 0x6e4;
/** u32 EXIT_*, and what is known about it. */
export const EXIT_CODE = 0x6e8;
export const EXIT_ARG = 0x6ec; // u32
/** The bytes at RIP of an EXIT_UNIMPLEMENTED: count u32, then up to 15 bytes. */
export const EXIT_BYTES = 0x6f0;

/** 16 XMM registers, 16 bytes each. */
export const XMM = 0x800;
export const MXCSR = 0xa00; // u32
export const XCR0 = 0xa08; // u64
/** x87: FCW u16, FSW u16 (TOP in bits 11–13, always current), abridged tag u8 (bit i: physical register i is not empty). */
export const FCW = 0xa10;
export const FSW = 0xa12;
export const FTAG = 0xa14;
export const FOP = 0xa16; // u16
export const FIP = 0xa18; // u64
export const FDP = 0xa20; // u64
/** 8 physical x87 registers, 16 bytes each: significand u64, sign and exponent u16 at +8. MMX registers alias the significands. */
export const FPR = 0xa40;
/** Where an access that crosses pages, or reaches MMIO, is assembled. 64 bytes. */
export const SCRATCH = 0xb00;
/** CPUID in (leaf, subleaf) and out (eax, ebx, ecx, edx), u32 each; also lo/hi of `readMsr`, `writeMsr`, `readTsc`. */
export const MAILBOX = 0xb80;

/** Save areas of the vCPUs that are not running, `STATE_END - STATE` bytes each, 64 of them. */
export const VCPU_SAVE = 0x20000;
export const VCPU_SAVE_SIZE = 0x800;
export const MAX_VCPUS = 64;

/** Software TLB, see `assembly/mmu.ts`. */
export const TLB = 0x40000;
export const TLB_ENTRIES = 2048;
/** Virtual address → block, see `assembly/blocks.ts`. */
export const JUMP_CACHE = 0x50000;
export const JUMP_CACHE_ENTRIES = 8192;
/** Physical memory slots: count u32, then {first page u32, pages u32, linear address u32, flags u32 (1: read-only)}. */
export const SLOTS = 0x70000;
export const SLOT_SIZE = 16;
export const MAX_SLOTS = 64;
/** Physical address → block, hashed. */
export const BLOCK_HASH = 0x80000;
export const BLOCK_HASH_ENTRIES = 0x10000;
/** Decoded records. */
export const ARENA = 0x100000;
export const ARENA_END = 0x2100000;
/** Per page of RAM, u32: first block decoded from it. */
export const PAGE_BLOCKS = 0x2100000;
/** Per page of RAM, u8: written since the last harvest (only while the dirty log is on). */
export const PAGE_DIRTY = 0x2500000;
/** Per page of RAM, u8: stores that met decoded code in the page since it was last empty of it. */
export const PAGE_STORES = 0x2600000;
/** Guest memory. */
export const RAM = 0x2800000;

export const EXIT_BUDGET = 0;
export const EXIT_HALT = 1;
export const EXIT_SHUTDOWN = 2;
export const EXIT_DEBUG = 3;
/** The core lacks what comes next: EXIT_ARG says what (LACKS_*), EXIT_BYTES holds the instruction at RIP. */
export const EXIT_UNIMPLEMENTED = 4;
/** The host asked to stop (`ATTENTION` bit 1), e.g. after an access whose handler threw. */
export const EXIT_KICK = 5;
/** PAUSE: a good moment to run another vCPU. */
export const EXIT_PAUSE = 6;

// What EXIT_UNIMPLEMENTED is about.
export const LACKS_INSTRUCTION = 0;
/** A switch through a TSS or task gate, or IRET with NT (SDM 3A §7.3). */
export const LACKS_TASK_SWITCH = 1;
/** A far call or jump through a call gate (SDM 3A §5.8.3). */
export const LACKS_CALL_GATE = 2;
/** EFLAGS.VM (SDM 3B §20.2). */
export const LACKS_VIRTUAL_8086 = 3;
/** An x87 exception that is to be reported by the FERR# pin: CR0.NE is clear (SDM 3A §6.15, #MF). */
export const LACKS_FERR = 4;
