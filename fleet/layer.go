package fleet

// LowestFault is the layer at fault: the lowest that is not up, where one that
// is down goes before one that only starts in the same layer. The layers stand
// from the lowest up.
func LowestFault(layers []Layer) (Layer, bool) {
	found := -1
	for i, l := range layers {
		if l.State == LayerUp {
			continue
		}
		if found < 0 || layers[found].Layer == l.Layer && layers[found].State != LayerDown && l.State == LayerDown {
			found = i
		}
	}
	if found < 0 {
		return Layer{}, false
	}
	return layers[found], true
}
