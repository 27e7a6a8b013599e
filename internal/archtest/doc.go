// Package archtest holds the tests of the project's shape: who may import
// whom. It has no code of its own.
package archtest
