// Package floorplan holds the architecture of conclave as tests.
//
// The tables in table_test.go say which packages exist, which of ours each may
// import, and through which package (the door) each third-party library
// enters. The tests read every Go file of the module and refuse what is not
// in the tables; their messages say why and what to do instead. They also
// hold the determinism fence, the package documentation, the build tags and the
// size limits.
//
// A row is added only when a duty is really new, together with its line in
// docs/ARCHITECTURE.md. Rows of packages that do not exist yet are fine.
//
// The package holds no product code, must be imported by nobody, and owns no
// goroutine.
package floorplan
