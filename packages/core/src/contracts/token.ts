declare const tokenType: unique symbol;
/** Names a service of type `T`. A bare symbol at run time, so it survives duplicate copies of this package. */
export type Token<T> = symbol & { readonly [tokenType]?: T };
export const token = <T>(name: string): Token<T> => Symbol.for(`northbridge:${name}`);
