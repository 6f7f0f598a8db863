// `npm run build|typecheck|lint|format|knip [-- ARGUMENTS]`: install when needed, run the tool.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/task.mjs');
