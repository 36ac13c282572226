export function transcendental(modrm: u32): void {}
