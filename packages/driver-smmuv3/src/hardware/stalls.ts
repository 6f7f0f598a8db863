/**
 * Stalled requests: kept with a tag until software answers the record, then tried again or ended.
 *
 * @spec SMMUv3 3.12.2 (stall model), 4.6 (RESUME, STALL_TERM), 7.2.1 (records of stalls)
 */
import { BLOCKED, isStalled, stalledRequest } from '@iommukit/core';
import { EVENT_RECORD } from '../spec/events.ts';
import type { EventQueue, FaultingRequest } from './event-queue.ts';
import type { Fault } from './faults.ts';

const { STAG, STALL } = EVENT_RECORD.fields;
const NO_STAG = -1;
const MAX_TICKET = 2 ** 30;
const RECORD_DWORDS = 8;
/** How deep answers of handlers may nest while a request is tried again; the rest waits its turn. */
const MAX_DEPTH = 8;
/**
 * How often one request is tried again before the register access or request that started all this
 * returns: a handler that resumes without mending the fault would go on for ever.
 */
const MAX_ROUNDS = 16;

/** A request as its translation needs it. */
export interface RequestParts {
  readonly sid: number;
  readonly ssid: number;
  readonly pfn: number;
  readonly access: number;
  readonly offset: number;
}

/** One stalled request. */
export interface Stalled extends RequestParts {
  readonly ticket: number;
  /** Tag of its record, or -1 while all tags are taken. */
  stag: number;
  readonly words: Uint32Array;
  /** The record stands in the queue: software may answer. */
  reported: boolean;
  /** The write of its record aborted: it is tried again when records can be written. */
  lost: boolean;
  /** Whoever sent it still waits for the call to return. */
  inCall: boolean;
  /** The answer, once it is over. */
  answer: number | undefined;
  rounds: number;
}

/** What stalled requests need of the unit. */
export interface StallParts {
  readonly events: EventQueue;
  /** Requests that hold a tag at most (IDR5.STALL_MAX). */
  readonly max: number;
  /** Translate a request again. */
  retry(request: RequestParts): number;
  /** Tell the bus that a stalled request is over. */
  resumed(sid: number, ticket: number, answer: number): void;
}

/** The stalled requests of a unit. */
export class Stalls {
  readonly #with: StallParts;
  /** Those with a tag. */
  readonly #tagged = new Map<number, Stalled>();
  /** Those that wait for a tag, oldest first. */
  readonly #untagged: Stalled[] = [];
  /** Those to be tried again. */
  readonly #ready: Stalled[] = [];
  /** Those that were tried too often meanwhile. */
  readonly #later: Stalled[] = [];
  /** The one that is being tried again. */
  #current: Stalled | undefined;
  #nextTicket = 0;
  #nextTag = 0;
  #depth = 0;
  #entries = 0;

  constructor(parts: StallParts) {
    this.#with = parts;
  }

  /** Requests that are stalled. */
  get count(): number {
    return this.#tagged.size + this.#untagged.length + this.#ready.length + this.#later.length;
  }

  /**
   * The request that is being tried again, if it is this one that faults. To be asked before
   * anything is recorded: a handler may send other requests meanwhile.
   */
  takeCurrent(): Stalled | undefined {
    const again = this.#current;
    this.#current = undefined;
    return again;
  }

  /**
   * Keep a request that faulted.
   *
   * @param again the kept one, when this was another try
   * @returns the answer, when the stall ended while its interrupt was serviced; else its code
   */
  stall(
    parts: RequestParts,
    request: FaultingRequest,
    fault: Fault,
    again: Stalled | undefined,
  ): number {
    const stalled = again ?? this.#create(parts);
    stalled.words.fill(0);
    this.#with.events.describe(request, fault, stalled.words);
    if (again === undefined) {
      this.enter();
      this.#report(stalled);
      this.leave();
      stalled.inCall = false;
      return stalled.answer ?? stalledRequest(stalled.ticket);
    }
    this.#report(stalled);
    return stalledRequest(stalled.ticket);
  }

  /** A register access or request starts that may end stalls. */
  enter(): void {
    if (this.#entries++ > 0 || this.#ready.length === 0) return;
    this.run();
  }

  /** It is over: requests that were tried too often have another chance with the next. */
  leave(): void {
    if (--this.#entries > 0) return;
    for (const stalled of this.#later.splice(0)) {
      stalled.rounds = 0;
      this.#ready.push(stalled);
    }
  }

  /**
   * RESUME: software answers a record. Only what it has seen counts, once.
   *
   * @param answer undefined = try again; BLOCKED or RAZ_WI = end
   */
  resume(sid: number, stag: number, answer: number | undefined): void {
    const stalled = this.#tagged.get(stag);
    if (stalled === undefined || stalled.sid !== sid || !stalled.reported) return;
    this.#tagged.delete(stag);
    stalled.answer = answer;
    this.#ready.push(stalled);
  }

  /** STALL_TERM: end every stalled request of a stream. */
  terminate(sid: number): void {
    this.#abort((stalled) => stalled.sid === sid);
  }

  /** SMMUEN falls, or reset: end every stalled request. */
  terminateAll(): void {
    this.#abort(() => true);
  }

  #abort(matches: (stalled: Stalled) => boolean): void {
    for (const stalled of [...this.#tagged.values()].filter(matches)) {
      this.#tagged.delete(stalled.stag);
      this.#ready.push(stalled);
    }
    for (const list of [this.#untagged, this.#later]) {
      const kept = list.filter((stalled) => !matches(stalled));
      this.#ready.push(...list.filter(matches));
      list.splice(0, list.length, ...kept);
    }
    for (const stalled of this.#ready) if (matches(stalled)) stalled.answer = BLOCKED;
  }

  /** SYNC: what could not be recorded is tried again with the configuration of now. */
  synchronize(): void {
    if (this.#tagged.size === 0 || this.#with.events.isWritable) return;
    for (const stalled of [...this.#tagged.values()]) {
      if (!stalled.reported) this.#tryLater(stalled);
    }
  }

  /** Records can be written, perhaps: those that wait are, oldest first. */
  deliver(): void {
    if (this.#tagged.size === 0) return;
    for (const stalled of [...this.#tagged.values()]) {
      if (stalled.reported || this.#tagged.get(stalled.stag) !== stalled) continue;
      if (!this.#with.events.isWritable) return;
      if (stalled.lost) this.#tryLater(stalled);
      else this.#write(stalled);
    }
    this.run();
  }

  /** Do what was decided: end requests, or try them again. */
  run(): void {
    if (this.#depth === MAX_DEPTH) return;
    this.#depth++;
    try {
      for (let next = this.#next(); next !== undefined; next = this.#next()) this.#settle(next);
    } finally {
      this.#depth--;
    }
  }

  /** The request to look at next; one that waited for a tag is tried when one is free. */
  #next(): Stalled | undefined {
    const ready = this.#ready.shift();
    if (ready !== undefined) return ready;
    return this.#tagged.size < this.#with.max ? this.#untagged.shift() : undefined;
  }

  #settle(stalled: Stalled): void {
    const { answer } = stalled;
    if (answer !== undefined) {
      this.#end(stalled, answer);
      return;
    }
    if (++stalled.rounds > MAX_ROUNDS) {
      this.#later.push(stalled);
      return;
    }
    stalled.stag = NO_STAG;
    this.#current = stalled;
    const result = this.#with.retry(stalled);
    this.#current = undefined;
    if (!isStalled(result)) this.#end(stalled, result);
  }

  #end(stalled: Stalled, answer: number): void {
    stalled.answer = answer;
    if (!stalled.inCall) this.#with.resumed(stalled.sid, stalled.ticket, answer);
  }

  #create({ sid, ssid, pfn, access, offset }: RequestParts): Stalled {
    const ticket = this.#nextTicket;
    this.#nextTicket = (ticket + 1) % MAX_TICKET;
    return {
      sid,
      ssid,
      pfn,
      access,
      offset,
      ticket,
      stag: NO_STAG,
      words: new Uint32Array(8),
      reported: false,
      lost: false,
      inCall: true,
      answer: undefined,
      rounds: 0,
    };
  }

  /** Give it a tag and write its record, or let it wait for either. */
  #report(stalled: Stalled): void {
    stalled.reported = false;
    stalled.lost = false;
    if (this.#tagged.size >= this.#with.max) {
      stalled.stag = NO_STAG;
      this.#untagged.push(stalled);
      return;
    }
    const tag = this.#freeTag();
    stalled.stag = tag;
    stalled.words[2] = ((stalled.words[2] as number) | (tag << STAG.shift) | STALL.mask) >>> 0;
    this.#tagged.set(tag, stalled);
    if (this.#with.events.isWritable) this.#write(stalled);
  }

  #write(stalled: Stalled): void {
    // Set before: the interrupt of the record may bring the answer.
    stalled.reported = true;
    if (this.#with.events.deliver(stalled.words)) return;
    stalled.reported = false;
    stalled.lost = true;
  }

  /** Tags go round, so that a late answer finds no newer request. */
  #freeTag(): number {
    let tag = this.#nextTag;
    while (this.#tagged.has(tag)) tag = (tag + 1) % this.#with.max;
    this.#nextTag = (tag + 1) % this.#with.max;
    return tag;
  }

  /** Everything that is kept, for a snapshot. */
  save(): StallsState {
    return {
      nextTicket: this.#nextTicket,
      nextTag: this.#nextTag,
      tagged: [...this.#tagged.values()].map(plain),
      untagged: this.#untagged.map(plain),
      ready: this.#ready.map(plain),
      later: this.#later.map(plain),
    };
  }

  /** @throws what `bad` makes of the first thing that cannot be; nothing changes */
  check(state: StallsState, bad: (what: string, value: number, accepted: string) => Error): void {
    const tags = state.tagged.map(({ stag }) => stag);
    const { max } = this.#with;
    if (tags.length > max) throw bad('stalled requests with a tag', tags.length, `at most ${max}`);
    const stray = tags.find((tag, at) => tag < 0 || tag >= max || tags.indexOf(tag) !== at);
    if (stray !== undefined)
      throw bad('a tag that cannot be', stray, `each of 0 to ${max - 1} once`);
    const records = [...state.tagged, ...state.untagged, ...state.ready, ...state.later];
    const odd = records.find(({ words }) => words.length !== RECORD_DWORDS);
    if (odd !== undefined) throw bad('dwords of a record', odd.words.length, `${RECORD_DWORDS}`);
    const last = max === 0 ? 0 : max - 1;
    if (state.nextTag > last) throw bad('the next tag', state.nextTag, `0 to ${last}`);
  }

  /** Put a state that {@link check} found good in place; who sent the requests is not told. */
  load(state: StallsState): void {
    this.#nextTicket = state.nextTicket % MAX_TICKET;
    this.#nextTag = state.nextTag;
    this.#tagged.clear();
    for (const stalled of state.tagged) this.#tagged.set(stalled.stag, revived(stalled));
    this.#untagged.splice(0, this.#untagged.length, ...state.untagged.map(revived));
    this.#ready.splice(0, this.#ready.length, ...state.ready.map(revived));
    this.#later.splice(0, this.#later.length, ...state.later.map(revived));
  }

  #tryLater(stalled: Stalled): void {
    this.#tagged.delete(stalled.stag);
    this.#ready.push(stalled);
  }
}

/** A stalled request at rest. */
export type StalledState = Omit<Stalled, 'inCall'>;

/** State of {@link Stalls}, plain data. */
export interface StallsState {
  readonly nextTicket: number;
  readonly nextTag: number;
  readonly tagged: readonly StalledState[];
  readonly untagged: readonly StalledState[];
  readonly ready: readonly StalledState[];
  readonly later: readonly StalledState[];
}

const plain = ({ inCall: _, words, ...stalled }: Stalled): StalledState => ({
  ...stalled,
  words: words.slice(),
});

const revived = ({ words, ...stalled }: StalledState): Stalled => ({
  ...stalled,
  words: words.slice(),
  inCall: false,
});
