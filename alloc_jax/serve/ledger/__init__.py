"""The ledger: what every request reserved and what it really used."""

from alloc_jax.serve.ledger.ledger import Account as Account, Ledger as Ledger, Move as Move, Settlement as Settlement
from alloc_jax.serve.ledger.stores import LedgerFault as LedgerFault
