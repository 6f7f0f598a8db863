// `npm run build|generate|typecheck|lint|format|knip|changeset [-- ARGUMENTS]`: install when needed, run the tool.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/task.mjs');
