//go:build race

package testneeds

// Race means that the tests run under the race detector.
const Race = true
