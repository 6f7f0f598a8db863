import {
  addr,
  decode,
  defineLayout,
  defineRegister,
  diagram,
  encode,
  enumeration,
  explain,
  flag,
  hex,
  maskOf,
  uint,
  writeHalf,
} from '@iommukit/bits';

// 1. Declare an entry once, with the specification's names and [hi:lo] bits.
const CONTEXT_ENTRY = defineLayout({
  name: 'CONTEXT_ENTRY',
  bits: 128,
  spec: 'VT-d 9.3',
  fields: {
    P: flag(0, 'present'),
    FPD: flag(1, 'fault processing disable'),
    TT: enumeration(3, 2, { UNTRANSLATED: 0, WITH_ATS: 1, PASS_THROUGH: 2 }, 'translation type'),
    SSPTPTR: addr(63, 12, 'second-stage table'),
    AW: uint(66, 64, 'address width'),
    DID: uint(87, 72, 'domain identifier'),
  },
});

// 2. Encode: names are checked by the compiler, values when the program runs.
const words = encode(CONTEXT_ENTRY, { P: 1, TT: 'WITH_ATS', SSPTPTR: 0x10000, AW: 2, DID: 5 });
console.log('words', Array.from(words, hex).join(' '));
try {
  encode(CONTEXT_ENTRY, { SSPTPTR: 0x10800 });
} catch (error) {
  console.log(String(error));
}

// 3. Decode: numbers, and bigint for fields wider than 53 bits.
const { SSPTPTR, DID } = decode(CONTEXT_ENTRY, words);
console.log('decoded', hex(SSPTPTR), DID);

// 4. Explain an entry that somebody else wrote: bit 5 is reserved, and is set.
words[0] = 0x10021 | (3 << 2);
for (const row of explain(CONTEXT_ENTRY, words)) {
  const mark = row.reservedBitsSet ? '  <- reserved bits set' : '';
  console.log(`${row.bits.padStart(7)}  ${row.name.padEnd(8)}  ${row.symbol ?? row.text}${mark}`);
}

// 5. Draw it.
console.log(diagram(CONTEXT_ENTRY));

// 6. Hot paths fold masks into constants once; nothing here runs per access.
const [present] = maskOf(CONTEXT_ENTRY, 'P') as [number];
const isPresent = (lo: number) => (lo & present) !== 0;
console.log('present', isPresent(words[0]));

// 7. Registers add an offset, the access of each field, and a reset value.
const FSTS = defineRegister({
  name: 'FSTS',
  offset: 0x34,
  bits: 32,
  spec: 'VT-d 11.4',
  fields: {
    PFO: { ...flag(0, 'primary fault overflow'), access: 'RW1C' },
    PPF: { ...flag(1, 'primary pending fault'), access: 'RO' },
    FRI: { ...uint(15, 8, 'fault record index'), access: 'RO' },
  },
});
console.log('FSTS', hex(writeHalf(FSTS, 0, 0x303, 0xffffffff)));
