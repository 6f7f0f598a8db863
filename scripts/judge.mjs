// `npm run golden [-- DIR...]`, `npm run hardware-cases [-- FILE_OR_DIR...]`: build, then replay.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/judge.mjs');
