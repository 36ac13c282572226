// What a slow instruction tells the run loop.

/** A fault is raised, nothing is changed. */
export const FAULT: u32 = 0;
export const NEXT: u32 = 1;
/** RIP says where to go on. */
export const JUMP: u32 = 2;
/** It wants to be visited again, once the run loop has looked around. */
export const AGAIN: u32 = 3;
/** The run ends behind it, with EXIT_CODE. */
export const LEAVE: u32 = 4;
