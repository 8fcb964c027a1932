"""Attribution: who shaped an answer, by how much, and what that earns them."""
