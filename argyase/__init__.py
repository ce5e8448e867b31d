"""argyase: from the formula of an argyrodite to its Li-ion conductivity, and to the reason for it.

The package holds the physics (`structures`, `potentials`, `dynamics`, `physics`, `figures`); it opens no
store and parses no flags. `argyase.datalake` stores labelled datasets and knows no physics;
`argyase.stages` joins the two behind the ``argyase`` command.
"""

__version__ = "0.1.0"
