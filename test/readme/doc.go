// Package readme tests that the command lines of README.md are ones that the
// program takes. It holds tests only and owns no goroutine.
package readme
