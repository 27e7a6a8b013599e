package ptytest

// Size is the size of a terminal, in characters.
type Size struct{ Columns, Rows uint16 }
