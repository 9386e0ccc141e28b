package server

// SortByDistance is sortByDistance, which needs whole WAN pools to be seen
// otherwise.
var SortByDistance = sortByDistance
