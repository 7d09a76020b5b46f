//go:build race

package raftstore

// raceDetector says that everything takes several times as long.
const raceDetector = true
