/**
 * Untranslated requests once more, slowly: 64-bit words as bigint, every rule spelled out, no cache.
 * Written from the specification's steps, shares nothing with the unit but its inputs.
 */

/** A request as the reference takes it. */
export interface ReferenceRequest {
  readonly rid: number;
  readonly pasid: number;
  /** Byte address, 64 bits. */
  readonly address: bigint;
  readonly write: boolean;
  readonly read: boolean;
  readonly user: boolean;
  readonly execute: boolean;
}

/** What the unit is set to. */
export interface ReferenceSettings {
  readonly deviceTable: bigint;
  readonly deviceTableBytes: number;
  readonly guestTables: boolean;
  readonly gcr3AtGuestPhysical: boolean;
  readonly guestAccessed: boolean;
  readonly guestDirty: boolean;
  readonly hostLevels: number;
  readonly guestLevels: number;
  readonly glx: number;
  readonly pasidBits: number;
}

/** Memory in qwords; undefined = nothing answers. */
export interface ReferenceMemory {
  read(pa: bigint): bigint | undefined;
  write(pa: bigint, value: bigint): void;
}

/** Event of two qwords. */
class Refused extends Error {
  readonly event: readonly [bigint, bigint];
  constructor(event: readonly [bigint, bigint]) {
    super('refused');
    this.event = event;
  }
}

const bits = (value: bigint, hi: number, lo: number): bigint =>
  (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
const bit = (value: bigint, at: number): boolean => bits(value, at, at) === 1n;
const ADDRESS = 0xf_ffff_ffff_f000n;

const FLAG = { GN: 48n, NX: 49n, US: 50n, PR: 52n, RW: 53n, PE: 54n, RZ: 55n } as const;
type Flag = keyof typeof FLAG;

interface Entry {
  readonly q: readonly [bigint, bigint, bigint, bigint];
  readonly mode: number;
  readonly had: number;
  readonly root: bigint;
}

interface Update {
  readonly address: bigint;
  readonly bits: bigint;
}

/** One unit without caches. */
export class Reference {
  readonly #memory: ReferenceMemory;
  readonly #set: ReferenceSettings;
  #request!: ReferenceRequest;
  #domain = 0n;
  #updates: Update[] = [];

  constructor(memory: ReferenceMemory, settings: ReferenceSettings) {
    this.#memory = memory;
    this.#set = settings;
  }

  /** Translate, set accessed and dirty bits. @returns a byte address, or the event */
  translate(request: ReferenceRequest): bigint | readonly [bigint, bigint] {
    this.#request = request;
    this.#updates = [];
    this.#domain = 0n;
    try {
      const address = this.#run();
      for (const { address: pa, bits: set } of this.#updates) {
        this.#memory.write(pa, (this.#memory.read(pa) as bigint) | set);
      }
      return address;
    } catch (error) {
      if (error instanceof Refused) return error.event;
      throw error;
    }
  }

  #refuse(code: bigint, flags: readonly Flag[], tag: bigint, address: bigint, type = 0n): never {
    let low = BigInt(this.#request.rid) | (code << 60n) | (type << 57n);
    low |= (tag & 0xffffn) << 32n;
    low |= (tag >> 16n) << 16n;
    for (const flag of flags) low |= 1n << FLAG[flag];
    throw new Refused([low, address]);
  }

  /** IO_PAGE_FAULT about the request's own address. */
  #fault(flags: readonly Flag[]): never {
    const { pasid, write, user, execute, address } = this.#request;
    const told = [...flags];
    const guest = flags.includes('GN');
    if (flags.includes('PR')) {
      if (write) told.push('RW');
      if (guest && user) told.push('US');
      if (guest && execute) told.push('NX');
    }
    return this.#refuse(2n, told, guest ? BigInt(Math.max(pasid, 0)) : this.#domain, address);
  }

  #run(): bigint {
    const { rid, pasid, address, read, write } = this.#request;
    const at = rid * 32;
    if (at + 32 > this.#set.deviceTableBytes) return this.#refuse(2n, [], 0n, address);
    const entry = this.#entry(this.#set.deviceTable + BigInt(at));
    const [q0] = entry.q;
    if (!bit(q0, 0)) return address;
    const rw: Flag[] = write ? ['RW'] : [];
    if (this.#isReserved(entry)) return this.#refuse(1n, ['RZ', ...rw], 0n, address & ~3n);
    const tagged: Flag[] = pasid >= 0 ? ['GN'] : [];
    if (!bit(q0, 1)) return this.#fault(tagged);
    const gv = this.#set.guestTables && bit(q0, 55);
    const guest = gv && (pasid >= 0 || bit(q0, 54));
    const width = BigInt(12 + 9 * entry.mode);
    const bounded = entry.mode >= 1 && entry.mode <= 5;
    if (!guest && pasid < 0 && bounded && address >> width !== 0n) return this.#fault([]);
    if ((read && !bit(q0, 61)) || (write && !bit(q0, 62))) {
      return this.#fault([...tagged, 'PR', 'PE']);
    }
    if (entry.mode > this.#set.hostLevels) return this.#refuse(1n, rw, 0n, address & ~3n);
    if (guest) return this.#guest(entry);
    if (pasid >= 0) return this.#fault(['GN']);
    if (entry.mode === 0) return address;
    return this.#host(entry, address, read, write, (flags) => this.#fault(flags));
  }

  #entry(address: bigint): Entry {
    const words = [0n, 8n, 16n, 24n].map((offset) => this.#memory.read(address + offset));
    if (words.includes(undefined)) {
      this.#refuse(3n, this.#request.write ? ['RW'] : [], 0n, address, 1n);
    }
    const q = words as [bigint, bigint, bigint, bigint];
    this.#domain = bits(q[1], 15, 0);
    const mode = Number(bits(q[0], 11, 9));
    return { q, mode, had: Number(bits(q[0], 8, 7)), root: q[0] & ADDRESS };
  }

  /** Reserved bits and values of the low half; the unit has every feature but secure ATS. */
  #isReserved({ q: [q0, q1, q2], had }: Entry): boolean {
    if (bits(q0, 6, 2) !== 0n || bit(q0, 63) || bit(q1, 42)) return true;
    if (had === 2 || bits(q1, 36, 35) === 3n) return true;
    if (!this.#set.guestTables || !bit(q0, 55)) return false;
    const glx = Number(bits(q0, 57, 56));
    return glx > this.#set.glx || 4 + Number(bits(q2, 55, 54)) > this.#set.guestLevels;
  }

  /** A host walk. @returns the system physical address */
  #host(
    { root, mode, had }: Entry,
    address: bigint,
    read: boolean,
    write: boolean,
    fault: (flags: readonly Flag[]) => never,
  ): bigint {
    if (mode < 6 && address >> BigInt(12 + 9 * mode) !== 0n) fault([]);
    const used: { address: bigint; word: bigint }[] = [];
    let table = root;
    for (let level = mode; ; ) {
      const lo = 3 + 9 * level;
      const index = bits(address, Math.min(lo + 8, 63), lo);
      const pa = table + index * 8n;
      const word = this.#memory.read(pa);
      if (word === undefined) return this.#tableAbort(pa, [], write);
      if (!bit(word, 0)) fault([]);
      const next = Number(bits(word, 11, 9));
      const leaf = next === 0 || next === 7;
      const reserved = leaf ? bits(word, 56, 52) : bits(word, 60, 52);
      if (reserved !== 0n) fault(['PR', 'RZ']);
      if ((read && !bit(word, 61)) || (write && !bit(word, 62))) fault(['PR', 'PE']);
      used.push({ address: pa, word });
      if (leaf) {
        const size = next === 7 ? this.#codedSize(word) : lo;
        const fits = next === 7 ? size > lo && size < lo + 9 : true;
        if (level === 6 || !fits) fault(['PR']);
        this.#owe(used, had, write);
        const low = (1n << BigInt(size)) - 1n;
        return (word & ADDRESS & ~low) | (address & low);
      }
      if (next >= level) fault(['PR']);
      if (next < level - 1 && bits(address, lo - 1, 12 + 9 * next) !== 0n) fault([]);
      table = word & ADDRESS;
      level = next;
    }
  }

  #codedSize(word: bigint): number {
    let size = 12;
    while (bit(word, size)) size++;
    return Math.min(size, 52) + 1;
  }

  #owe(used: readonly { address: bigint; word: bigint }[], had: number, write: boolean): void {
    if (had === 0) return;
    used.forEach(({ address }, at) => {
      const dirty = had === 3 && write && at === used.length - 1;
      this.#updates.push({ address, bits: dirty ? 0x60n : 0x20n });
    });
  }

  #tableAbort(pa: bigint, flags: readonly Flag[], write: boolean): never {
    const guest = flags.includes('GN');
    const tag = guest ? BigInt(Math.max(this.#request.pasid, 0)) : this.#domain;
    return this.#refuse(4n, write ? [...flags, 'RW'] : flags, tag, pa, 1n);
  }

  /** A guest physical address to a system physical one; a refusal tells that address, GN=0. */
  #physical(entry: Entry, gpa: bigint, read: boolean, write: boolean): bigint {
    if (entry.mode === 0) return gpa;
    return this.#host(entry, gpa, read, write, (flags) => {
      const told: readonly Flag[] = flags.includes('PR') && write ? [...flags, 'RW'] : flags;
      return this.#refuse(2n, told, this.#domain, gpa);
    });
  }

  #guest(entry: Entry): bigint {
    const { address, read, write, user, execute } = this.#request;
    const pasid = Math.max(this.#request.pasid, 0);
    let table = this.#cr3(entry, pasid);
    const levels = 4 + Number(bits(entry.q[2], 55, 54));
    const width = 12 + 9 * levels;
    const top = bits(address, 63, pasid === 0 ? width : width - 1);
    const ones = (1n << BigInt(64 - width + 1)) - 1n;
    if (top !== 0n && (pasid === 0 || top !== ones)) this.#fault(['GN']);
    const used: { gpa: bigint; word: bigint }[] = [];
    for (let level = levels; ; level--) {
      const lo = 3 + 9 * level;
      const gpa = table + bits(address, lo + 8, lo) * 8n;
      const pa = this.#physical(entry, gpa, true, false);
      const word = this.#memory.read(pa);
      if (word === undefined) return this.#tableAbort(pa, ['GN'], write);
      if (!bit(word, 0)) this.#fault(['GN']);
      const leaf = level === 1 || (level <= 3 && bit(word, 7));
      if (level >= 4 && bit(word, 7)) this.#fault(['GN', 'PR', 'RZ']);
      if (leaf && level > 1 && bits(word, lo - 1, 13) !== 0n) this.#fault(['GN', 'PR', 'RZ']);
      used.push({ gpa, word });
      table = word & ADDRESS;
      if (!leaf) continue;
      const all = (at: number) => used.every((step) => bit(step.word, at));
      const denied = (write && !all(1)) || (user && !all(2));
      if (denied || (execute && used.some((step) => bit(step.word, 63)))) {
        this.#fault(['GN', 'PR', 'PE']);
      }
      this.#guestUpdates(entry, used, write);
      const low = (1n << BigInt(lo)) - 1n;
      const data = (word & ADDRESS & ~low) | (address & low);
      return this.#physical(entry, data, read, write);
    }
  }

  #guestUpdates(
    entry: Entry,
    used: readonly { gpa: bigint; word: bigint }[],
    write: boolean,
  ): void {
    used.forEach(({ gpa, word }, at) => {
      const dirty = write && this.#set.guestDirty && at === used.length - 1;
      const set = (this.#set.guestAccessed ? 0x20n : 0n) | (dirty ? 0x40n : 0n);
      if ((word & set) === set) return;
      this.#updates.push({ address: this.#physical(entry, gpa, false, true), bits: set });
    });
  }

  #cr3(entry: Entry, pasid: number): bigint {
    const [q0, q1] = entry.q;
    const glx = Number(bits(q0, 57, 56));
    if (pasid >> this.#set.pasidBits !== 0 || pasid >> (9 * (glx + 1)) !== 0) this.#fault(['GN']);
    let table = (bits(q1, 63, 43) << 31n) | (bits(q1, 31, 16) << 15n) | (bits(q0, 60, 58) << 12n);
    for (let level = glx; level >= 0; level--) {
      const gpa = table + bits(BigInt(pasid), 9 * level + 8, 9 * level) * 8n;
      const through = this.#set.gcr3AtGuestPhysical;
      const pa = through ? this.#physical(entry, gpa, true, false) : gpa;
      const word = this.#memory.read(pa);
      if (word === undefined) return this.#tableAbort(pa, ['GN'], this.#request.write);
      if (!bit(word, 0)) this.#fault(['GN']);
      if (bits(word, 11, 1) !== 0n || bits(word, 63, 52) !== 0n) this.#fault(['GN', 'PR', 'RZ']);
      table = word & ADDRESS;
    }
    return table;
  }
}
