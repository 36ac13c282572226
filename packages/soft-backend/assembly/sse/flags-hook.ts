/** Where COMISx, PTEST and PCMPxSTRx leave the status flags; AF becomes 0. */
export { setComparisonFlags as setZPC } from "../flags";
