// What the host gives the core. See README.md.
// @ts-ignore: decorator
@external("env", "portIn") export declare function portIn(port: u32, size: u32): u32;
// @ts-ignore: decorator
@external("env", "portOut") export declare function portOut(port: u32, size: u32, value: u32): void;
// @ts-ignore: decorator
@external("env", "mmioRead") export declare function mmioRead(gpaLo: u32, gpaHi: u32, size: u32): u32;
// @ts-ignore: decorator
@external("env", "mmioWrite") export declare function mmioWrite(gpaLo: u32, gpaHi: u32, size: u32, value: u32): void;
// @ts-ignore: decorator
@external("env", "acknowledge") export declare function acknowledge(): i32;
// @ts-ignore: decorator
@external("env", "readTsc") export declare function readTsc(): void;
// @ts-ignore: decorator
@external("env", "readMsr") export declare function readHostMsr(index: u32): i32;
// @ts-ignore: decorator
@external("env", "writeMsr") export declare function writeHostMsr(index: u32): i32;
// @ts-ignore: decorator
@external("env", "cpuid") export declare function hostCpuid(): void;
// @ts-ignore: decorator
@external("env", "cr8Written") export declare function cr8Written(value: u32): void;
