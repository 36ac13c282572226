// Nothing yet: see README.md for what belongs here.
export {};
