// Child processes of a benchmark run: pinned to one CPU, asked for one round at a time, so that the
// rounds of several of them alternate and meet the same machine.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';

const has = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** The C compiler, or undefined. */
export const compiler = ['gcc', 'cc', 'clang'].find((name) => has(name, '--version'));

/** The CPU that measurements are pinned to; undefined where `taskset` is missing. */
export const pinnedCpu = has('taskset', '-c', '0', 'true') ? availableParallelism() - 1 : undefined;

/** Command and arguments, pinned when possible. */
export function pinned(command, args) {
  if (pinnedCpu === undefined) return [command, args];
  return ['taskset', ['-c', String(pinnedCpu), command, ...args]];
}

/** Compiles the anchor; returns the path of the program. */
export function compileAnchor(directory, name, flags) {
  const output = `${directory}/${name}`;
  const source = new URL('anchor.c', import.meta.url).pathname;
  execFileSync(compiler, [...flags, '-o', output, source], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return output;
}

/** A child that answers every line with one JSON line. */
export class Server {
  #child;
  #lines;
  #name;
  /** Minimum of all rounds so far. */
  ns = Number.POSITIVE_INFINITY;

  constructor(command, args) {
    this.#name = [command, ...args].join(' ');
    this.#child = spawn(...pinned(command, [...args, '--serve']), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdin.on('error', () => {}); // a child that died is reported by round()
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Runs one round and keeps the minimum. */
  async round() {
    this.#child.stdin.write('\n');
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`benchmark process ended early: ${this.#name}`);
    this.ns = Math.min(this.ns, JSON.parse(value).ns);
  }

  stop() {
    this.#child.stdin.end();
    this.#child.kill();
  }
}

/** Runs `rounds` rounds of every server in turn; stops them; returns the minima in order. */
export async function interleave(servers, rounds) {
  try {
    // The first answers also wait for start-up and warm-up, one process after the other.
    for (const server of servers) await server.round();
    for (let n = 0; n < rounds; n++) {
      for (const server of servers) await server.round();
    }
  } finally {
    for (const server of servers) server.stop();
  }
  return servers.map((server) => server.ns);
}

/** Runs a program to its end and returns the JSON it prints. */
export function runJson(file, args = [], pin = true) {
  const path = new URL(file, import.meta.url).pathname;
  const [command, all] = pin
    ? pinned(process.execPath, [path, ...args])
    : [process.execPath, [path, ...args]];
  return JSON.parse(
    execFileSync(command, all, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' }),
  );
}
