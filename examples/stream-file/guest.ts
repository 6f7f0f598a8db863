import { maskOf } from '@iommukit/bits';
import { FS_PTE } from '@iommukit/driver-vtd';

const PAGE_BYTES = 4096;
const LEVELS = 4;
const ENTRIES = 512;

/** Guest RAM as the guest's CPU sees it, addressed by guest physical address (GPA). */
export interface GuestRam {
  /** Bytes of RAM, from GPA 0. */
  readonly sizeBytes: number;
  /** The bytes [gpa, gpa + length); zero-copy. */
  view(gpa: number, length: number): Uint8Array;
}

const PRESENT_WRITABLE_USER = (maskOf(FS_PTE, 'P', 'RW', 'US')[0] ?? 0) >>> 0;
const PRESENT_USER = (maskOf(FS_PTE, 'P', 'US')[0] ?? 0) >>> 0;
const PRESENT = (maskOf(FS_PTE, 'P')[0] ?? 0) >>> 0;

/**
 * The guest's memory management: it hands out its own RAM and writes its own first-stage table
 * into it, entry by entry, as a guest kernel does. Nobody outside helps.
 *
 * Physical pages are handed out scattered (every page in one half of RAM, then one in the
 * other), so that neighbouring virtual pages are not neighbours in RAM.
 */
export class Guest {
  readonly ram: GuestRam;
  /** GPA of the root of the first-stage table; what the VMM passes as `pgtbl_addr`. */
  readonly rootGpa: number;
  /** Pages of RAM in use by tables and mappings. */
  pagesUsed = 0;
  /** The guest CPU's own TLB: bytes of a page by its virtual address. */
  readonly #cpuTlb = new Map<number, Uint8Array>();

  constructor(ram: GuestRam) {
    this.ram = ram;
    this.rootGpa = this.allocPage();
  }

  /**
   * Take a zeroed page of RAM.
   *
   * @returns its GPA; page 0 is never handed out
   * @throws {RangeError} when RAM is used up
   */
  allocPage(): number {
    const pages = this.ram.sizeBytes / PAGE_BYTES;
    const index = ++this.pagesUsed;
    if (index >= pages) {
      throw new RangeError(`the guest's ${this.ram.sizeBytes >> 20} MiB of RAM are used up`);
    }
    const half = pages >> 1;
    const page = index % 2 === 0 ? index >> 1 : half + (index >> 1);
    this.ram.view(page * PAGE_BYTES, PAGE_BYTES).fill(0);
    return page * PAGE_BYTES;
  }

  /** Map the page at `gva` to `gpa` (both 4 KiB aligned), making tables on the way. */
  mapPage(gva: number, gpa: number, writable = true): void {
    this.#cpuTlb.delete(gva);
    let table = this.rootGpa;
    for (let level = LEVELS - 1; level > 0; level--) {
      const entry = this.#entry(table, gva, level);
      if ((entry.getUint32(0, true) & PRESENT) === 0) {
        writeEntry(entry, this.allocPage(), PRESENT_WRITABLE_USER);
      }
      table = pageOf(entry);
    }
    writeEntry(this.#entry(table, gva, 0), gpa, writable ? PRESENT_WRITABLE_USER : PRESENT_USER);
  }

  /**
   * Walk the table as the guest's CPU does.
   *
   * @returns the GPA of the byte at `gva`, or -1 when its page is not mapped
   */
  translate(gva: number): number {
    let table = this.rootGpa;
    for (let level = LEVELS - 1; level >= 0; level--) {
      const entry = this.#entry(table, gva, level);
      if ((entry.getUint32(0, true) & PRESENT) === 0) return -1;
      table = pageOf(entry);
    }
    return table + (gva % PAGE_BYTES);
  }

  /** The bytes [gva, gva + length), which must not cross a 4 KiB border and must be mapped. */
  bytes(gva: number, length: number): Uint8Array {
    const offset = gva % PAGE_BYTES;
    const page = this.#cpuTlb.get(gva - offset) ?? this.#fillCpuTlb(gva - offset);
    return page.subarray(offset, offset + length);
  }

  #fillCpuTlb(gva: number): Uint8Array {
    const gpa = this.translate(gva);
    if (gpa < 0) throw new RangeError(`guest virtual address 0x${gva.toString(16)} is not mapped`);
    const page = this.ram.view(gpa, PAGE_BYTES);
    this.#cpuTlb.set(gva, page);
    return page;
  }

  #entry(tableGpa: number, gva: number, level: number): DataView {
    const index = Math.floor(gva / 2 ** (12 + 9 * level)) % ENTRIES;
    const bytes = this.ram.view(tableGpa + index * 8, 8);
    return new DataView(bytes.buffer, bytes.byteOffset, 8);
  }
}

const writeEntry = (entry: DataView, gpa: number, bits: number): void => {
  entry.setUint32(4, Math.floor(gpa / 2 ** 32), true);
  entry.setUint32(0, (gpa % 2 ** 32) + bits, true);
};

const pageOf = (entry: DataView): number =>
  (entry.getUint32(4, true) & 0xf_ffff) * 2 ** 32 + ((entry.getUint32(0, true) & ~0xfff) >>> 0);
