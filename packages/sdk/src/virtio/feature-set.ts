/** Feature bits 0 to 63 (virtio 1.3 §2.2). Immutable. */
export class FeatureSet {
  readonly low: number;
  readonly high: number;

  constructor(low = 0, high = 0) {
    this.low = low >>> 0;
    this.high = high >>> 0;
  }

  static of(bits: Iterable<number>): FeatureSet {
    let [low, high] = [0, 0];
    for (const bit of bits) {
      if (bit < 32) low |= 1 << bit;
      else high |= 1 << (bit - 32);
    }
    return new FeatureSet(low, high);
  }

  has(bit: number): boolean {
    return bit < 32 ? ((this.low >>> bit) & 1) === 1 : bit < 64 && ((this.high >>> (bit - 32)) & 1) === 1;
  }

  /** 32 bits as a transport shows them; zero behind the last ones. */
  word(select: number): number {
    return select === 0 ? this.low : select === 1 ? this.high : 0;
  }

  withWord(select: number, value: number): FeatureSet {
    if (select === 0) return new FeatureSet(value, this.high);
    return select === 1 ? new FeatureSet(this.low, value) : this;
  }

  within(other: FeatureSet): FeatureSet {
    return new FeatureSet(this.low & other.low, this.high & other.high);
  }

  isSubsetOf(other: FeatureSet): boolean {
    return (this.low & ~other.low) === 0 && (this.high & ~other.high) === 0;
  }
}
