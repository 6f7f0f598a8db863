/** The formats that are measured: name in the results, and how to create one. 4 KiB granules. */
export const FORMATS = {
  'vtd-ss': (p) => p.vtdSecondStage({ levels: 4 }),
  'x86-64': (p) => p.x86FirstStage({ levels: 4 }),
  'arm-s1': (p) => p.armStage1({}),
  'arm-s2': (p) => p.armStage2({}),
  'amd-v1': (p) => p.amdV1({ levels: 4 }),
};

/** What is judged against it: ours / native of the same run. */
export const TARGETS = {
  map1g: 0.6,
  map2m: 0.65,
  map4k: 1.1,
  unmap4k: 0.5,
  unmap2m_straddle: 1.2,
  translate: 1.7,
  translate_batch: 1.4,
  dirty_none: 0.45,
  dirty_all: 0.5,
};

/** Other formats may take this many times what `vtd-ss` takes. */
export const FORMAT_TARGET = 1.3;

/** One line per operation: what one measured unit is. */
export const OPERATIONS = {
  map1g: 'map 1 GiB of 4 KiB pages in one call, tables included',
  map2m: 'map 2 MiB of 4 KiB pages in one call, table included',
  map4k: 'map one 4 KiB page, 1/512 of a table included',
  unmap4k: 'unmap one 4 KiB page',
  unmap2m_straddle: 'unmap 2 MiB that lie in two leaf tables',
  translate: 'look up one random page of 1 GiB',
  translate_batch: 'look up 1024 random pages of 1 GiB in one call',
  dirty_none: 'read and clear dirty bits of 1 GiB, all clean, per page',
  dirty_all: 'read and clear dirty bits of 1 GiB, all dirty, per page',
};
