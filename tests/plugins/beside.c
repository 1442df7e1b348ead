/* The library that lies beside plugin "origin". */
int number_of_beside(void);
int number_of_beside(void) { return 31; }
