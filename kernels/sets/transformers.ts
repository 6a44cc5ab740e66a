/** Attention in all its forms, and what goes with it. */
import { attentions } from '../attention.ts';
import { causalConv } from '../conv-causal.ts';
import type { Op } from '../define.ts';
import { einsum } from '../einsum.ts';
import { embedNorms } from '../norm-embed.ts';
import { rotary } from '../rotary.ts';

export const families: readonly (readonly Op[])[] = [attentions, causalConv, einsum, embedNorms, rotary];
