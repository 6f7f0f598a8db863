// Run by npx with the pinned pnpm on PATH: prints where that pnpm is.
import { findPnpm, pinnedPnpm } from './pnpm.mjs';

const entry = findPnpm(pinnedPnpm(), process.env.PATH ?? '');
if (!entry) throw new Error(`npx put no pnpm ${pinnedPnpm()} on PATH`);
console.log(entry);
