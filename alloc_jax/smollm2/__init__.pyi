from alloc_jax.smollm2.log import smollm2_log as smollm2_log
from alloc_jax.smollm2.questions import WordProblem as WordProblem, word_problems as word_problems
from alloc_jax.smollm2.recipes import smollm2_recipes as smollm2_recipes
