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

const isZero = (words: Int32Array, frame: number): boolean => {
  const end = (frame + 1) * PAGE_WORDS;
  for (let at = frame * PAGE_WORDS; at < end; at++) if (words[at] !== 0) return false;
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

/** Make a region hold exactly these pages, and zeros elsewhere. */
export const setPageContents = (
  bytes: Uint8Array,
  words: Int32Array,
  contents: readonly PageContent[],
): void => {
  let from = 0;
  for (const content of contents) {
    clear(bytes, words, from, content.frame);
    bytes.set(content.bytes, content.frame * PAGE_BYTES);
    from = content.frame + content.bytes.length / PAGE_BYTES;
  }
  clear(bytes, words, from, Math.floor(words.length / PAGE_WORDS));
};

/** Zero what is not zero: memory that nobody touched stays untouched. */
const clear = (bytes: Uint8Array, words: Int32Array, from: number, to: number): void => {
  for (let frame = from; frame < to; frame++) {
    if (!isZero(words, frame)) bytes.fill(0, frame * PAGE_BYTES, (frame + 1) * PAGE_BYTES);
  }
};
