// Native anchor of the page-table benchmarks: VT-d second stage, 4 levels, in plain C.
//
// The same algorithm and the same work as the package: a pool of 4 KiB tables with a free list and a
// live count per table, two passes per map (find occupied entries and count missing tables, then
// write what cannot fail any more), whole tables freed without reading them. -DSINGLE_PAGE_PATH=1
// adds a short path for one page whose leaf table exists, -DKEEP_LEVEL_1=1 a batch of look-ups that
// keeps the level-1 table of the frame before. Every operation is out of line, as a library's would be.
//
// Is the work the same? Both check arguments, walk four levels, refuse occupied entries, keep live counts,
// take tables from a free list and clear what a run leaves out. The package also keeps freed tables apart
// until their user has invalidated, where free_tree() here gives them back at once: no measured operation
// frees a table while the clock runs, so the anchor gains nothing by it. The package remembers the leaf
// table of the last single page, which the anchor does not; that is a difference of method, not of result.
// A single page takes the ways of a range here: 6 ns to unmap one at -O2, of which the walk takes half
// (the short path: 3 ns). No loop of it is worth a vector, so -O3 changes little.
//
//   cc -O2 -o anchor anchor.c
//   anchor OP [ROUNDS]     one JSON line: the minimum over ROUNDS (15)
//   anchor OP --serve      one JSON line per line read from standard input
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint32_t u32;
typedef uint64_t u64;

#ifndef SINGLE_PAGE_PATH
#define SINGLE_PAGE_PATH 0
#endif
#ifndef KEEP_LEVEL_1
#define KEEP_LEVEL_1 0
#endif
#define NOINLINE __attribute__((noinline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { EEXIST = -17, ENOMEM = -12, ERANGE_ = -34, EINVAL = -22, LEVELS = 4, ENTRIES = 512 };

static const u64 R = 1, W = 2, PS = 1 << 7, D = 1 << 9;
static const u64 ADDR = 0x000ffffffffff000;
static const u64 VA_LIMIT = (u64)1 << (9 * LEVELS), OA_LIMIT = (u64)1 << 40;

// ---- pool -----------------------------------------------------------------------------------

static const u64 BASE = (u64)1 << 40; // physical address of the pool
static const u32 POOL_PAGES = 4096;

struct record {
  u32 live; // entries in use
  u32 next; // next free table
};
static unsigned char *pool;
static struct record *records;
static u32 free_head, free_count, bump = 1, tables;

static inline struct record *record(u32 table) { return &records[table >> 12]; }
static inline u64 *entries(u32 table) { return (u64 *)(pool + table); }
static inline u32 offset_of(u64 entry) { return (u32)(entry & ADDR); } // BASE is 4 GiB-aligned

static inline int reserve(u32 count) {
  return LIKELY(free_count + (POOL_PAGES - bump) >= count) ? 0 : ENOMEM;
}
static inline u32 allocate(void) {
  u32 table = free_head;
  if (LIKELY(table)) {
    free_head = record(table)->next;
    free_count--;
  } else {
    table = bump++ << 12;
  }
  record(table)->live = 0;
  tables++;
  return table;
}
static inline void release(u32 table) {
  record(table)->next = free_head;
  free_head = table;
  free_count++;
  tables--;
}

// ---- table ----------------------------------------------------------------------------------

static u32 root;
static u64 sizes = 1 | 1 << 9 | 1 << 18; // usable page sizes, bit s: 2^s frames

static inline u64 *slot(u32 table, int level, u64 va) {
  return entries(table) + (va >> (9 * level) & (ENTRIES - 1));
}
static inline u64 next_item(u64 va, int level, u64 end) {
  u64 next = ((va >> (9 * level)) + 1) << (9 * level);
  return next < end ? next : end;
}
static inline int best_size(u64 va, u64 oa, u64 end) {
  int aligned = __builtin_ctzll(va | oa | (u64)1 << 40), room = 63 - __builtin_clzll(end - va);
  int fit = aligned < room ? aligned : room;
  return 63 - __builtin_clzll(sizes & (((u64)2 << fit) - 1));
}
static inline void fill(u64 *p, u32 n, u64 entry, u64 step) {
  for (u32 i = 0; i < n; i++, entry += step) p[i] = entry;
}
static int any_present(const u64 *p, const u64 *end) {
  for (; end - p >= 4; p += 4) {
    if (p[0] | p[1] | p[2] | p[3]) return 1;
  }
  for (; p < end; p++) {
    if (*p) return 1;
  }
  return 0;
}
static int is_empty(u32 table, int level) {
  if (record(table)->live == 0) return 1;
  if (level == 0) return 0;
  for (u64 *p = entries(table), *end = p + ENTRIES; p < end; p++) {
    if (*p && ((*p & PS) || !is_empty(offset_of(*p), level - 1))) return 0;
  }
  return 1;
}

/** Frees a table and all below it; returns the frames that were mapped. */
static u64 free_tree(u32 table, int level) {
  u64 frames = 0;
  if (level == 0) {
    frames = record(table)->live;
  } else if (record(table)->live) {
    for (u64 *p = entries(table), *end = p + ENTRIES; p < end; p++) {
      if (!*p) continue;
      if (*p & PS) frames += (u64)1 << (9 * level);
      else frames += free_tree(offset_of(*p), level - 1);
    }
  }
  release(table);
  return frames;
}

// ---- map ------------------------------------------------------------------------------------

/** Leaf table of a frame, or 0. */
static inline u32 leaf_table(u64 va) {
  u64 entry = *slot(root, 3, va);
  if (UNLIKELY(!entry || (entry & PS))) return 0;
  entry = *slot(offset_of(entry), 2, va);
  if (UNLIKELY(!entry || (entry & PS))) return 0;
  entry = *slot(offset_of(entry), 1, va);
  if (UNLIKELY(!entry || (entry & PS))) return 0;
  return offset_of(entry);
}

/** A run: the leaves of one size that one call puts into one table. */
struct run {
  int level;
  u32 n;
  u64 end;
};
static inline struct run next_run(u64 va, u64 delta, u64 end) {
  int level = end - va < ENTRIES || (delta & (ENTRIES - 1)) ? 0 : best_size(va, va + delta, end) / 9;
  u32 n = ENTRIES - (u32)(va >> (9 * level) & (ENTRIES - 1));
  if (n > (end - va) >> (9 * level)) n = (u32)((end - va) >> (9 * level));
  return (struct run){level, n, va + ((u64)n << (9 * level))};
}

/** Tables that [va, end) still needs, or EEXIST. Nothing is changed. */
static int plan(u64 start, u64 delta, u64 end) {
  int missing = 0;
  for (u64 va = start; va < end;) {
    struct run run = next_run(va, delta, end);
    u32 table = root;
    int level = LEVELS - 1;
    for (; level > run.level; level--) {
      u64 entry = *slot(table, level, va);
      if (entry & PS) return EEXIST;
      if (!entry) break;
      table = offset_of(entry);
    }
    if (level == run.level) {
      u64 *p = slot(table, level, va);
      if (level == 0) {
        if (record(table)->live && any_present(p, p + run.n)) return EEXIST;
      } else {
        for (u64 *past = p + run.n; p < past; p++) {
          if (*p && ((*p & PS) || !is_empty(offset_of(*p), level - 1))) return EEXIST;
        }
      }
    }
    // A missing table is counted by the first run inside it.
    for (; level > run.level; level--) {
      missing += va == start || (va & (((u64)1 << (9 * level)) - 1)) == 0;
    }
    va = run.end;
  }
  return missing;
}

/** A table for a run at `va`, cleared where the run will not write. */
static inline u32 new_table(int level, u64 va, const struct run *run) {
  u32 table = allocate();
  if (level != run->level) {
    memset(entries(table), 0, 4096);
    return table;
  }
  u64 *first = slot(table, level, va), *past = first + run->n;
  if (first != entries(table)) memset(entries(table), 0, (first - entries(table)) * 8);
  if (past != entries(table) + ENTRIES) memset(past, 0, (entries(table) + ENTRIES - past) * 8);
  return table;
}

/** Removes the empty tables that large leaves replace. */
static void drop_empty(u32 table, int level, u64 *p, u32 n) {
  for (u32 i = 0; i < n; i++) {
    if (!p[i]) continue;
    free_tree(offset_of(p[i]), level - 1);
    record(table)->live--;
  }
}

static void write_runs(u64 va, u64 delta, u64 end, u64 attr) {
  while (va < end) {
    struct run run = next_run(va, delta, end);
    u32 table = root;
    for (int level = LEVELS - 1; level > run.level; level--) {
      u64 *at = slot(table, level, va);
      if (UNLIKELY(!*at)) {
        *at = (BASE + new_table(level - 1, va, &run)) | R | W;
        record(table)->live++;
      }
      table = offset_of(*at);
    }
    u64 *p = slot(table, run.level, va);
    if (run.level && record(table)->live) drop_empty(table, run.level, p, run.n);
    fill(p, run.n, attr | (run.level ? PS : 0) | (va + delta) << 12, (u64)4096 << (9 * run.level));
    record(table)->live += run.n;
    va = run.end;
  }
}

static NOINLINE int map_range(u64 va, u64 oa, u64 count, u32 prot) {
  if (va >= VA_LIMIT || count > VA_LIMIT - va || oa >= OA_LIMIT || count > OA_LIMIT - oa) return ERANGE_;
  if (count == 0) return EINVAL;
  if (SINGLE_PAGE_PATH && count == 1) {
    u32 table = leaf_table(va);
    if (LIKELY(table)) {
      u64 *at = slot(table, 0, va);
      if (UNLIKELY(*at)) return EEXIST;
      *at = (prot & 3) | oa << 12;
      record(table)->live++;
      return 0;
    }
  }
  int missing = plan(va, oa - va, va + count);
  if (missing < 0) return missing;
  if (reserve((u32)missing)) return ENOMEM;
  write_runs(va, oa - va, va + count, prot & 3);
  return 0;
}

// ---- unmap ----------------------------------------------------------------------------------

static inline u64 clear_counting(u64 *p, u64 *end) {
  u64 count = 0;
  for (; p < end; p++) {
    count += *p != 0;
    *p = 0;
  }
  return count;
}

/** Frames of the leaves that start in the range, or EINVAL when it starts inside a leaf. */
static int64_t unmap_runs(u64 va, u64 end) {
  int64_t frames = 0;
  while (va < end) {
    u32 table = root;
    int level = LEVELS - 1;
    u64 *at, entry, item;
    for (;; level--) {
      at = slot(table, level, va);
      entry = *at;
      item = (u64)1 << (9 * level);
      if (level == 0 || !entry || (entry & PS) || (!(va & (item - 1)) && end - va >= item)) break;
      table = offset_of(entry);
    }
    if (level == 0) {
      u64 n = next_item(va, 1, end) - va, count = n;
      if (record(table)->live == ENTRIES) memset(at, 0, n * 8); // all present: nothing to count
      else count = clear_counting(at, at + n);
      record(table)->live -= (u32)count;
      frames += (int64_t)count;
      va += n;
      continue;
    }
    if (entry) {
      if ((entry & PS) && (va & (item - 1))) return EINVAL;
      *at = 0;
      record(table)->live--;
      frames += (int64_t)((entry & PS) ? item : free_tree(offset_of(entry), level - 1));
    }
    va = next_item(va, level, end);
  }
  return frames;
}

static NOINLINE int64_t unmap_range(u64 va, u64 count) {
  if (va >= VA_LIMIT || count > VA_LIMIT - va) return ERANGE_;
  if (SINGLE_PAGE_PATH && count == 1) {
    u32 table = leaf_table(va);
    if (LIKELY(table)) {
      u64 *at = slot(table, 0, va);
      if (!*at) return 0;
      *at = 0;
      record(table)->live--;
      return 1;
    }
  }
  return unmap_runs(va, va + count);
}

// ---- look-up --------------------------------------------------------------------------------

static inline int64_t look_up(u64 va) {
  if (UNLIKELY(va >= VA_LIMIT)) return -1;
  u64 entry = *slot(root, 3, va);
  if (UNLIKELY(!entry)) return -1;
  entry = *slot(offset_of(entry), 2, va);
  if (UNLIKELY(!entry)) return -1;
  if (UNLIKELY(entry & PS)) return (int64_t)((entry & ADDR) >> 12 | (va & 0x3ffff));
  entry = *slot(offset_of(entry), 1, va);
  if (UNLIKELY(!entry)) return -1;
  if (UNLIKELY(entry & PS)) return (int64_t)((entry & ADDR) >> 12 | (va & 0x1ff));
  entry = *slot(offset_of(entry), 0, va);
  if (UNLIKELY(!entry)) return -1;
  return (int64_t)((entry & ADDR) >> 12);
}
static NOINLINE int64_t translate(u64 va) { return look_up(va); }

/** Level-1 table of a frame, or 0. */
static inline u32 level_1_table(u64 va) {
  if (va >= VA_LIMIT) return 0;
  u64 entry = *slot(root, 3, va);
  if (!entry) return 0;
  entry = *slot(offset_of(entry), 2, va);
  return !entry || (entry & PS) ? 0 : offset_of(entry);
}
static inline int64_t look_up_below(u32 table, u64 va) {
  u64 entry = *slot(table, 1, va);
  if (UNLIKELY(!entry)) return -1;
  if (UNLIKELY(entry & PS)) return (int64_t)((entry & ADDR) >> 12 | (va & 0x1ff));
  entry = *slot(offset_of(entry), 0, va);
  return UNLIKELY(!entry) ? -1 : (int64_t)((entry & ADDR) >> 12);
}
static NOINLINE void translate_batch(const u64 *in, int64_t *out, u32 n) {
  if (!KEEP_LEVEL_1) {
    for (u32 i = 0; i < n; i++) out[i] = look_up(in[i]);
    return;
  }
  u64 region = ~(u64)0;
  u32 table = 0;
  for (u32 i = 0; i < n; i++) {
    u64 va = in[i];
    if (UNLIKELY(va >> 18 != region)) {
      u32 found = level_1_table(va);
      if (!found) {
        out[i] = look_up(va);
        continue;
      }
      table = found;
      region = va >> 18;
    }
    out[i] = look_up_below(table, va);
  }
}

// ---- dirty ----------------------------------------------------------------------------------

static u64 *bitmap;

static inline void set_bits(u64 at, u64 count) {
  for (; count && (at & 63); at++, count--) bitmap[at >> 6] |= (u64)1 << (at & 63);
  for (; count >= 64; at += 64, count -= 64) bitmap[at >> 6] = ~(u64)0;
  for (; count; at++, count--) bitmap[at >> 6] |= (u64)1 << (at & 63);
}

/** Leaves of one table, 64 at a time where the bitmap is aligned: nothing is stored for clean ones. */
static void dirty_leaves(u64 *p, u32 n, u64 bit) {
  while (n) {
    u32 here = 64 - (u32)(bit & 63);
    if (here > n) here = n;
    u64 any = 0, word = 0;
    for (u32 i = 0; i < here; i++) any |= p[i];
    if (any & D) {
      for (u32 i = 0; i < here; i++) {
        word |= (p[i] >> 9 & 1) << i;
        p[i] &= ~D;
      }
      bitmap[bit >> 6] |= word << (bit & 63);
    }
    p += here;
    n -= here;
    bit += here;
  }
}
static u64 dirty_start;
static void dirty_tree(u32 table, int level, u64 va, u64 end) {
  if (level == 0) {
    dirty_leaves(slot(table, 0, va), (u32)(end - va), va - dirty_start);
    return;
  }
  do {
    u64 next = next_item(va, level, end), *at = slot(table, level, va), entry = *at;
    if (entry & PS) {
      if (entry & D) {
        set_bits(va - dirty_start, next - va);
        *at = entry & ~D;
      }
    } else if (entry) {
      dirty_tree(offset_of(entry), level - 1, va, next);
    }
    va = next;
  } while (va < end);
}
static NOINLINE int read_and_clear_dirty(u64 va, u64 count) {
  if (va >= VA_LIMIT || count > VA_LIMIT - va) return ERANGE_;
  dirty_start = va;
  dirty_tree(root, LEVELS - 1, va, va + count);
  return 0;
}

// ---- measurements ---------------------------------------------------------------------------

static const u64 GIB = 1 << 18, IOVA = (u64)4 << 18, OA = ((u64)8 << 18) + 1; // OA forces 4 KiB leaves
static const u32 SINGLES = 65536, LOOKUPS = 65536;
// Best of so many: the first pass after another process had the CPU finds cold caches.
enum { REPEAT = 4 };
static double least(double a, double b) { return a < b ? a : b; }
static u64 *lookups;
static int64_t *results;
static volatile u64 sink;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static void must(int64_t is, int64_t wanted, const char *what) {
  if (is == wanted) return;
  fprintf(stderr, "anchor: %s gave %lld, not %lld\n", what, (long long)is, (long long)wanted);
  exit(1);
}
static void map_all(void) { must(map_range(IOVA, OA, GIB, 3), 0, "map 1 GiB"); }
static void unmap_all(void) { unmap_range(IOVA, GIB); }

static double map1g(void) {
  double best = 1e300;
  for (int i = 0; i < REPEAT; i++) {
    double t = now();
    map_all();
    best = least(best, now() - t);
    must(unmap_range(IOVA, GIB), (int64_t)GIB, "unmap 1 GiB");
  }
  return best;
}
static double map2m(void) {
  double best = 1e300;
  for (int i = 0; i < REPEAT; i++) {
    int64_t errors = 0;
    double t = now();
    for (u64 at = 0; at < GIB; at += 512) errors |= map_range(IOVA + at, OA + at, 512, 3);
    best = least(best, now() - t);
    must(errors, 0, "map 2 MiB");
    unmap_all();
  }
  return best / 512;
}
static double map4k(void) {
  int64_t errors = 0;
  double t = now();
  for (u64 at = 0; at < SINGLES; at++) errors |= map_range(IOVA + at, OA + at, 1, 3);
  t = now() - t;
  must(errors, 0, "map 4 KiB");
  unmap_all();
  return t / SINGLES;
}
static double unmap4k(void) {
  int64_t frames = 0;
  map_all();
  double t = now();
  for (u64 at = 0; at < SINGLES; at++) frames += unmap_range(IOVA + at, 1);
  t = now() - t;
  must(frames, SINGLES, "unmap 4 KiB");
  unmap_all();
  return t / SINGLES;
}
/** 2 MiB windows that end in the middle of two leaf tables, whose other halves stay mapped. */
static double unmap2m_straddle(void) {
  double best = 1e300;
  for (int i = 0; i < REPEAT; i++) {
    int64_t frames = 0;
    map_all();
    double t = now();
    for (u64 at = 256; at < GIB; at += 1024) frames += unmap_range(IOVA + at, 512);
    best = least(best, now() - t);
    must(frames, 256 * 512, "unmap 2 MiB");
    unmap_all();
  }
  return best / 256;
}
static double translate_op(void) {
  double best = 1e300;
  for (int r = 0; r < REPEAT; r++) {
    u64 sum = 0;
    double t = now();
    for (u32 i = 0; i < LOOKUPS; i++) sum += (u64)translate(lookups[i]);
    best = least(best, now() - t);
    sink = sum;
  }
  return best / LOOKUPS;
}
static double translate_batch_op(void) {
  double best = 1e300;
  for (int r = 0; r < REPEAT; r++) {
    double t = now();
    for (u32 i = 0; i < LOOKUPS; i += 1024) translate_batch(lookups + i, results, 1024);
    best = least(best, now() - t);
  }
  must(results[0], (int64_t)(lookups[LOOKUPS - 1024] - IOVA + OA), "translate");
  return best / (LOOKUPS / 1024);
}
static double dirty(int all) {
  double best = 1e300;
  for (int i = 0; i < REPEAT; i++) {
    memset(bitmap, 0, GIB / 8);
    for (u64 at = 0; all && at < GIB; at++) *slot(leaf_table(IOVA + at), 0, IOVA + at) |= D;
    double t = now();
    must(read_and_clear_dirty(IOVA, GIB), 0, "dirty");
    best = least(best, now() - t);
    for (u64 w = 0; w < GIB / 64; w++) must((int64_t)bitmap[w], all ? -1 : 0, "dirty bits");
  }
  return best / (double)GIB;
}
static double dirty_none(void) { return dirty(0); }
static double dirty_all(void) { return dirty(1); }

/** The bytes of 1 GiB of leaf entries, table by table, as fast as the C library stores them. */
static double memset_op(void) {
  double t = now();
  for (u32 i = 1; i <= 512; i++) memset(pool + (i << 12), (int)i, 4096);
  t = now() - t;
  sink = pool[4096 * 512];
  return t;
}

static const struct op {
  const char *name;
  double (*run)(void);
  int mapped;
} ops[] = {
    {"map1g", map1g, 0},
    {"map2m", map2m, 0},
    {"map4k", map4k, 0},
    {"unmap4k", unmap4k, 0},
    {"unmap2m_straddle", unmap2m_straddle, 0},
    {"translate", translate_op, 1},
    {"translate_batch", translate_batch_op, 1},
    {"dirty_none", dirty_none, 1},
    {"dirty_all", dirty_all, 1},
    {"memset", memset_op, 0},
};

static void prepare(const struct op *op) {
  pool = aligned_alloc(4096, (size_t)POOL_PAGES << 12);
  records = calloc(POOL_PAGES, sizeof *records);
  bitmap = aligned_alloc(64, GIB / 8);
  lookups = malloc(LOOKUPS * sizeof *lookups);
  results = malloc(1024 * sizeof *results);
  if (!pool || !records || !bitmap || !lookups || !results) exit(1);
  memset(pool, 0xff, (size_t)POOL_PAGES << 12); // touched, and not zero by luck
  u32 x = 1;
  for (u32 i = 0; i < LOOKUPS; i++) lookups[i] = IOVA + ((x = x * 1103515245u + 12345u) >> 8 & (GIB - 1));
  root = allocate();
  memset(entries(root), 0, 4096);
  if (op->mapped) map_all();
}

static void print(const struct op *op, double ns) {
  printf("{\"op\":\"%s\",\"impl\":\"native\",\"format\":\"vtd-ss\",\"ns\":%.4f}\n", op->name, ns);
  fflush(stdout);
}

int main(int argc, char **argv) {
  const struct op *op = NULL;
  for (size_t i = 0; argc > 1 && i < sizeof ops / sizeof *ops; i++) {
    if (!strcmp(argv[1], ops[i].name)) op = &ops[i];
  }
  if (!op) {
    fprintf(stderr, "usage: anchor OP [ROUNDS | --serve], OP one of");
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) fprintf(stderr, " %s", ops[i].name);
    fprintf(stderr, "\n");
    return 2;
  }
  prepare(op);
  op->run();
  if (argc > 2 && !strcmp(argv[2], "--serve")) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) print(op, op->run());
    return 0;
  }
  double best = 1e300;
  for (int rounds = argc > 2 ? atoi(argv[2]) : 15; rounds > 0; rounds--) {
    double ns = op->run();
    if (ns < best) best = ns;
  }
  print(op, best);
  return 0;
}
