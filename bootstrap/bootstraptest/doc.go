// Package bootstraptest holds every bootstrap.Source to the contract: one
// suite, run by the tests of each source against real lookups.
//
// It is for tests only and must not know any particular source. It owns no
// goroutines.
package bootstraptest
