import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { Medium } from './nvme-device.ts';
import { BLOCK_BYTES } from './nvme-layout.ts';

/** A file as the medium of a block device; the last block is padded with zeros. */
export class FileMedium implements Medium {
  readonly lengthBytes: number;
  readonly blocks: number;
  readonly #fd: number;

  /**
   * @throws {Error} with a message for people when the file cannot be read or is no regular file
   */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch (error) {
      throw new Error(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
    }
    const stat = fstatSync(this.#fd);
    if (!stat.isFile()) {
      closeSync(this.#fd);
      throw new Error(`cannot stream ${path}: it is not a regular file`);
    }
    this.lengthBytes = stat.size;
    this.blocks = Math.ceil(stat.size / BLOCK_BYTES);
  }

  read(lba: number, target: Uint8Array): void {
    let done = 0;
    while (done < target.length) {
      const count = readSync(
        this.#fd,
        target,
        done,
        target.length - done,
        lba * BLOCK_BYTES + done,
      );
      if (count === 0) break;
      done += count;
    }
    target.fill(0, done);
  }

  close(): void {
    closeSync(this.#fd);
  }
}
