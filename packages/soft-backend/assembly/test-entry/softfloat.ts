/** What the tests drive directly. Not part of the core. */
export * from "../softfloat/environment";
export * from "../softfloat/f32";
export * from "../softfloat/f64";
